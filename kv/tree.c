/*
 * Searching and changing the tree. See tree.h; its self-check is in tree_check.c.
 *
 * Reading order: slot_of (one node), kv_tree_seek (all the way down), kv_tree_put with insert and split,
 * kv_tree_remove with rebalance and merge.
 */
#include "kv/tree.h"

#include "daemon/assert.h"
#include "kv/bytes.h"

/* Prefixes are computed anew for a longer skip only when it gains so many bytes: it means looking at every record. */
#define SKIP_GAIN_MIN 4u

/* Two neighbours become one when together they fill no more than this, so that the next key does not split them. */
#define MERGE_SLOTS_MAX (KV_NODE_SLOTS * 3 / 4)

#define CACHE_LINE_SIZE 64u

/* Searching ------------------------------------------------------------------------------------------- */

/* The first slot in [slot, end) with a prefix >= / > the given one. Without branches on what is compared: for a random
 * key these would be mispredicted half the time. */
static unsigned first_not_below(const uint64_t *prefixes, unsigned slot, unsigned end, uint64_t prefix)
{
	unsigned n = end - slot;

	while (n > 0) {
		unsigned half = (n + 1) / 2;

		slot += prefixes[slot + half - 1] < prefix ? half : 0;
		n -= half;
	}
	return slot;
}

static unsigned first_above(const uint64_t *prefixes, unsigned slot, unsigned end, uint64_t prefix)
{
	return prefix == UINT64_MAX ? end : first_not_below(prefixes, slot, end, prefix + 1);
}

/* The first slot in [begin, count) whose record is not below the key. */
static unsigned slot_of(const struct kv_node *node, unsigned begin, const uint8_t *key, size_t key_size,
			bool *ret_found)
{
	uint64_t prefix = kv_prefix(key, key_size, node->skip);
	unsigned slot = first_not_below(node->prefixes, begin, node->count, prefix);
	unsigned end = slot;

	if (slot < node->count && node->prefixes[slot] == prefix) {
		end = slot + 1;
		if (end < node->count && node->prefixes[end] == prefix)
			end = first_above(node->prefixes, end, node->count, prefix);
	}
	while (slot < end) {
		unsigned middle = slot + (end - slot) / 2;
		int order = kv_record_compare(node->records[middle], key, key_size, node->skip);

		if (order == 0) {
			*ret_found = true;
			return middle;
		}
		if (order < 0)
			slot = middle + 1;
		else
			end = middle;
	}
	*ret_found = false;
	return slot;
}

/* The child of an inner node under which the key belongs: the last whose separator is not above it. */
static unsigned child_slot_of(const struct kv_node *node, const uint8_t *key, size_t key_size)
{
	bool found;
	unsigned slot = slot_of(node, 1, key, key_size, &found);

	raft_assert(slot > 0 && slot <= node->count);
	return found ? slot : slot - 1;
}

/* The search is about to jump over all of the prefixes: let their cache lines come at once instead of one by one. */
static void prefetch_node(const struct kv_node *node)
{
	const uint8_t *bytes = (const uint8_t *)node;

	for (size_t at = 0; at < offsetof(struct kv_node, records); at += CACHE_LINE_SIZE)
		__builtin_prefetch(bytes + at);
}

const struct kv_record *kv_tree_find(const struct kv_node *root, const uint8_t *key, size_t key_size)
{
	const struct kv_node *node = root;
	unsigned slot;
	bool found;

	if (node == NULL)
		return NULL;
	while (node->level > 0) {
		node = node->children[child_slot_of(node, key, key_size)];
		prefetch_node(node);
	}
	slot = slot_of(node, 0, key, key_size, &found);
	return found ? node->records[slot] : NULL;
}

void kv_tree_seek(struct kv_node *root, const uint8_t *key, size_t key_size, struct kv_path *ret_path)
{
	struct kv_node *node = root;
	unsigned height = 0;

	ret_path->found = false;
	while (node != NULL) {
		raft_assert(height < KV_LEVELS_MAX);
		ret_path->steps[height].node = node;
		if (node->level == 0) {
			ret_path->steps[height++].slot = slot_of(node, 0, key, key_size, &ret_path->found);
			break;
		}
		ret_path->steps[height].slot = child_slot_of(node, key, key_size);
		node = node->children[ret_path->steps[height++].slot];
		prefetch_node(node);
	}
	ret_path->height = height;
}

struct kv_record *kv_path_record(const struct kv_path *path)
{
	const struct kv_node *leaf;

	if (path->height == 0)
		return NULL;
	leaf = path->steps[path->height - 1].node;
	raft_assert(leaf->level == 0);
	return path->steps[path->height - 1].slot < leaf->count ? leaf->records[path->steps[path->height - 1].slot]
								: NULL;
}

bool kv_path_next(struct kv_path *path)
{
	raft_assert(path->height > 0);
	path->steps[path->height - 1].slot++;
	return kv_path_settle(path);
}

bool kv_path_settle(struct kv_path *path)
{
	unsigned depth = path->height;

	/* Up to where there is something to the right, then down its leftmost branch. */
	if (kv_path_record(path) != NULL)
		return true;
	while (depth > 0 && path->steps[depth - 1].slot + (depth < path->height) >= path->steps[depth - 1].node->count)
		depth--;
	if (depth == 0)
		return false;
	path->steps[depth - 1].slot++;
	for (; depth < path->height; depth++) {
		const struct kv_node *above = path->steps[depth - 1].node;

		path->steps[depth].node = above->children[path->steps[depth - 1].slot];
		path->steps[depth].slot = 0;
	}
	raft_assert(kv_path_record(path) != NULL);
	return true;
}

/* Changing: what insertion and removal share ------------------------------------------------------------ */

/* Makes every node of the path the tree's own. */
static void own_path(struct kv_tree *tree, struct kv_path *path)
{
	for (unsigned i = 0; i < path->height; i++) {
		struct kv_node *node = kv_node_own(path->steps[i].node);

		if (i == 0)
			tree->root = node;
		else
			path->steps[i - 1].node->children[path->steps[i - 1].slot] = node;
		path->steps[i].node = node;
	}
}

static struct kv_node *node_new(struct kv_tree *tree, uint8_t level, uint16_t skip)
{
	struct kv_node *node = kv_node_new(level, skip);

	tree->nodes++;
	tree->memory += kv_node_memory(node);
	return node;
}

static void node_drop(struct kv_tree *tree, struct kv_node *node)
{
	raft_assert(tree->nodes > 0);
	tree->nodes--;
	tree->memory -= kv_node_memory(node);
	kv_node_free_empty(node);
}

static void record_drop(struct kv_tree *tree, struct kv_record *record)
{
	tree->memory -= kv_record_memory(record);
	kv_record_unref(record);
}

size_t kv_separator_size(const struct kv_record *left, const struct kv_record *right)
{
	const uint8_t *left_key = kv_record_key(left), *right_key = kv_record_key(right);
	size_t left_size = kv_record_key_size(left), right_size = kv_record_key_size(right), common = 0;

	while (common < left_size && common < right_size && left_key[common] == right_key[common])
		common++;
	raft_assert(common < right_size);
	raft_assert(common == left_size || left_key[common] < right_key[common]);
	return common + 1;
}

static struct kv_record *separator_new(struct kv_tree *tree, const struct kv_record *left,
				       const struct kv_record *right)
{
	struct kv_record *separator = kv_record_new(kv_record_key(right), kv_separator_size(left, right), NULL, 0, 0);

	tree->memory += kv_record_memory(separator);
	return separator;
}

const struct kv_record *kv_path_bound_below(const struct kv_path *path, unsigned depth)
{
	while (depth-- > 0)
		if (path->steps[depth].slot > 0)
			return path->steps[depth].node->records[path->steps[depth].slot];
	return NULL;
}

const struct kv_record *kv_path_bound_above(const struct kv_path *path, unsigned depth)
{
	while (depth-- > 0)
		if (path->steps[depth].slot + 1 < path->steps[depth].node->count)
			return path->steps[depth].node->records[path->steps[depth].slot + 1];
	return NULL;
}

size_t kv_bounds_common(const struct kv_record *below, const struct kv_record *above)
{
	size_t end, common = 0;

	if (below == NULL || above == NULL)
		return 0;
	end = kv_record_key_size(below);
	if (kv_record_key_size(above) < end)
		end = kv_record_key_size(above);
	while (common < end && kv_record_key(below)[common] == kv_record_key(above)[common])
		common++;
	return common;
}

/* After the bounds of a node came closer together. */
static void narrow(struct kv_node *node, const struct kv_record *below, const struct kv_record *above)
{
	size_t common = kv_bounds_common(below, above);

	raft_assert(common >= node->skip);
	if (common >= (size_t)node->skip + SKIP_GAIN_MIN)
		kv_node_set_skip(node, common);
}

/* Inserting -------------------------------------------------------------------------------------------- */

static void fill_slot(struct kv_node *node, unsigned slot, struct kv_record *record, struct kv_node *child)
{
	raft_assert((node->level > 0) == (child != NULL));
	kv_node_open_slot(node, slot);
	kv_node_set_record(node, slot, record);
	if (child != NULL)
		node->children[slot] = child;
}

/* How many slots stay in the left half. Keys that come in order leave three quarters full behind them instead of one
 * half; either way both halves keep the minimum. */
static unsigned split_point(unsigned slot)
{
	if (slot == KV_NODE_SLOTS)
		return KV_NODE_SLOTS * 3 / 4;
	if (slot == 0)
		return KV_NODE_SLOTS_MIN;
	return KV_NODE_SLOTS / 2;
}

/* Splits the full node steps[depth] while inserting into it. Returns the new right half, and what separates it. */
static struct kv_node *split_and_fill(struct kv_tree *tree, const struct kv_path *path, unsigned depth,
				      struct kv_record *record, struct kv_node *child, struct kv_record **ret_separator)
{
	struct kv_node *left = path->steps[depth].node;
	/* In an inner node the new child goes to the right of the one that was split. */
	unsigned slot = path->steps[depth].slot + (child != NULL);
	unsigned kept = split_point(slot);
	struct kv_node *right = node_new(tree, left->level, left->skip);
	struct kv_record *separator;

	raft_assert(left->count == KV_NODE_SLOTS);
	kv_node_shift_right(left, right, left->count - kept);
	if (slot <= kept)
		fill_slot(left, slot, record, child);
	else
		fill_slot(right, slot - kept, record, child);
	if (left->level == 0) {
		separator = separator_new(tree, left->records[left->count - 1], right->records[0]);
	} else {
		separator = right->records[0];
		kv_node_set_record(right, 0, NULL);
	}
	narrow(left, kv_path_bound_below(path, depth), separator);
	narrow(right, separator, kv_path_bound_above(path, depth));
	*ret_separator = separator;
	return right;
}

/* Puts the record into its leaf, and on the way up the right halves of what had to be split. */
static void insert(struct kv_tree *tree, const struct kv_path *path, struct kv_record *record)
{
	struct kv_node *child = NULL, *root;

	for (unsigned depth = path->height; depth-- > 0;) {
		struct kv_node *node = path->steps[depth].node;

		if (node->count < KV_NODE_SLOTS) {
			fill_slot(node, path->steps[depth].slot + (child != NULL), record, child);
			return;
		}
		child = split_and_fill(tree, path, depth, record, child, &record);
	}
	/* The root was split, or there was none. */
	root = node_new(tree, child == NULL ? 0 : (uint8_t)(child->level + 1), 0);
	if (child != NULL) {
		fill_slot(root, 0, NULL, tree->root);
		fill_slot(root, 1, record, child);
	} else {
		fill_slot(root, 0, record, NULL);
	}
	tree->root = root;
}

const struct kv_record *kv_tree_put(struct kv_tree *tree, struct kv_path *path, const uint8_t *key, size_t key_size,
				    const uint8_t *value, uint32_t value_size, uint64_t revision)
{
	struct kv_record *record, *old;
	struct kv_node *leaf;

	raft_assert(path->height == 0 ? tree->root == NULL : path->steps[0].node == tree->root);
	own_path(tree, path);
	old = path->found ? kv_path_record(path) : NULL;
	if (old != NULL && kv_record_overwrite(old, value, value_size, revision))
		return old; /* which takes as much memory as before */
	record = kv_record_new(key, key_size, value, value_size, revision);
	tree->memory += kv_record_memory(record);
	if (old == NULL) {
		insert(tree, path, record);
		return record;
	}
	raft_assert(kv_record_compare(old, key, key_size, 0) == 0);
	leaf = path->steps[path->height - 1].node;
	leaf->records[path->steps[path->height - 1].slot] = record;
	record_drop(tree, old);
	return record;
}

/* Removing --------------------------------------------------------------------------------------------- */

/* Two neighbours below one node, and what bounds them. */
struct pair {
	struct kv_node *parent;
	unsigned slot; /* of left in the parent; right is the next */
	struct kv_node *left, *right;
	const struct kv_record *below, *above;
};

/* The node at steps[depth] and a neighbour, both made the tree's own. */
static struct pair pair_of(const struct kv_path *path, unsigned depth)
{
	struct kv_node *parent = path->steps[depth - 1].node;
	unsigned own = path->steps[depth - 1].slot;
	unsigned slot = own > 0 ? own - 1 : own;
	struct pair pair = {.parent = parent, .slot = slot};

	raft_assert(slot + 1 < parent->count);
	pair.left = parent->children[slot] = kv_node_own(parent->children[slot]);
	pair.right = parent->children[slot + 1] = kv_node_own(parent->children[slot + 1]);
	pair.below = slot > 0 ? parent->records[slot] : kv_path_bound_below(path, depth - 1);
	pair.above = slot + 2 < parent->count ? parent->records[slot + 2] : kv_path_bound_above(path, depth - 1);
	return pair;
}

/* Takes the separator of the pair out of the parent. Between inner nodes it comes down to where right begins. */
static void lower_separator(struct kv_tree *tree, const struct pair *pair)
{
	struct kv_record *separator = pair->parent->records[pair->slot + 1];

	if (pair->left->level == 0)
		record_drop(tree, separator);
	else
		pair->right->records[0] = separator;
	pair->parent->records[pair->slot + 1] = NULL;
}

static void merge(struct kv_tree *tree, const struct pair *pair)
{
	raft_assert(pair->left->count + pair->right->count <= KV_NODE_SLOTS);
	lower_separator(tree, pair);
	kv_node_shift_left(pair->left, pair->right, pair->right->count);
	kv_node_close_slot(pair->parent, pair->slot + 1);
	node_drop(tree, pair->right);
	kv_node_set_skip(pair->left, kv_bounds_common(pair->below, pair->above));
}

static void even_out(struct kv_tree *tree, const struct pair *pair)
{
	struct kv_node *left = pair->left, *right = pair->right;
	struct kv_record *separator;

	lower_separator(tree, pair);
	if (left->count < right->count)
		kv_node_shift_left(left, right, (right->count - left->count) / 2u);
	else
		kv_node_shift_right(left, right, (left->count - right->count) / 2u);
	if (left->level == 0) {
		separator = separator_new(tree, left->records[left->count - 1], right->records[0]);
	} else {
		separator = right->records[0];
		right->records[0] = NULL;
	}
	kv_node_set_record(pair->parent, pair->slot + 1, separator);
	kv_node_set_skip(left, kv_bounds_common(pair->below, separator));
	kv_node_set_skip(right, kv_bounds_common(separator, pair->above));
	raft_assert(left->count >= KV_NODE_SLOTS_MIN && right->count >= KV_NODE_SLOTS_MIN);
}

/* An inner root with a single child is one level too many; an empty leaf is an empty tree. */
static void lower_root(struct kv_tree *tree)
{
	struct kv_node *root = tree->root;

	if (root->level == 0 ? root->count > 0 : root->count > 1)
		return;
	tree->root = root->level > 0 ? root->children[0] : NULL;
	root->count = 0;
	node_drop(tree, root);
}

void kv_tree_remove(struct kv_tree *tree, struct kv_path *path)
{
	struct kv_node *leaf;
	unsigned slot;

	raft_assert(path->found && path->height > 0);
	raft_assert(path->steps[0].node == tree->root);
	own_path(tree, path);
	leaf = path->steps[path->height - 1].node;
	slot = path->steps[path->height - 1].slot;
	record_drop(tree, leaf->records[slot]);
	kv_node_close_slot(leaf, slot);
	for (unsigned depth = path->height - 1; depth > 0; depth--) {
		struct pair pair;

		if (path->steps[depth].node->count >= KV_NODE_SLOTS_MIN)
			break;
		pair = pair_of(path, depth);
		if (pair.left->count + pair.right->count <= MERGE_SLOTS_MAX)
			merge(tree, &pair);
		else
			even_out(tree, &pair);
	}
	lower_root(tree);
}
