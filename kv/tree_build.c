/*
 * Building a tree from records that come in order. See tree_build.h.
 *
 * The nodes that are being filled are the right edge of the tree: one for each level, each the last child of the one
 * above. When a leaf is full, new nodes are opened from the leaf up to the first level that has room.
 */
#include "kv/tree_build.h"

#include "daemon/assert.h"
#include "kv/bytes.h"

/* As full as a split of keys in order leaves them: room for some keys before a node is split. */
#define SLOTS_FILLED (KV_NODE_SLOTS * 3 / 4)
_Static_assert((SLOTS_FILLED + 1) / 2 >= KV_NODE_SLOTS_MIN, "the slots of one node too many are enough for two");

/* The slots that the next node of this level gets. */
static unsigned next_share(struct kv_tree_builder *builder, unsigned level)
{
	unsigned slots = (unsigned)builder->levels[level].slots_per_node;

	if (builder->levels[level].wider_nodes == 0)
		return slots;
	builder->levels[level].wider_nodes--;
	return slots + 1;
}

void kv_tree_builder_init(struct kv_tree_builder *builder, uint64_t keys)
{
	uint64_t items = keys;

	raft_assert(keys <= KV_TREE_BUILD_KEYS_MAX);
	*builder = (struct kv_tree_builder){.keys = keys};
	while (items > 0) {
		uint64_t nodes = (items + SLOTS_FILLED - 1) / SLOTS_FILLED;

		raft_assert(builder->height < KV_LEVELS_MAX);
		builder->levels[builder->height].slots_per_node = items / nodes;
		builder->levels[builder->height].wider_nodes = items % nodes;
		builder->height++;
		items = nodes > 1 ? nodes : 0;
	}
}

void kv_tree_builder_fini(struct kv_tree_builder *builder)
{
	kv_node_unref(builder->tree.root);
	*builder = (struct kv_tree_builder){.keys = 0};
}

static void close_node(struct kv_tree_builder *builder, unsigned level, const struct kv_record *above)
{
	const struct kv_record *below = NULL;

	for (unsigned i = level + 1; i < builder->height && below == NULL; i++)
		below = builder->levels[i].node->records[builder->levels[i].node->count - 1];
	raft_assert(builder->levels[level].node->count == builder->levels[level].slots);
	kv_node_set_skip(builder->levels[level].node, kv_bounds_common(below, above));
}

/* The prefixes of a node are computed when it is closed: only then its bounds are known. */
static void add_slot(struct kv_node *node, struct kv_record *record, struct kv_node *child)
{
	raft_assert(node->count < KV_NODE_SLOTS);
	node->records[node->count] = record;
	if (node->level > 0)
		node->children[node->count] = child;
	node->count++;
}

/* New nodes for the levels below `levels`, each the only child of the next. False: no memory. */
static bool alloc_branch(struct kv_node **nodes, unsigned levels)
{
	for (unsigned i = 0; i < levels; i++) {
		nodes[i] = kv_node_alloc((uint8_t)i, 0);
		if (nodes[i] == NULL) {
			kv_node_unref(i > 0 ? nodes[i - 1] : NULL);
			return false;
		}
		if (i > 0)
			add_slot(nodes[i], NULL, nodes[i - 1]);
	}
	return true;
}

static void open_branch(struct kv_tree_builder *builder, struct kv_node **nodes, unsigned levels)
{
	for (unsigned i = 0; i < levels; i++) {
		builder->levels[i].node = nodes[i];
		builder->levels[i].slots = next_share(builder, i);
		builder->tree.nodes++;
		builder->tree.memory += kv_node_memory(nodes[i]);
	}
}

static bool begin(struct kv_tree_builder *builder)
{
	struct kv_node *nodes[KV_LEVELS_MAX];

	if (!alloc_branch(nodes, builder->height))
		return false;
	open_branch(builder, nodes, builder->height);
	builder->tree.root = nodes[builder->height - 1];
	return true;
}

/* Opens nodes to the right of the full leaf, which the record is to be the first of. */
static bool open_leaf(struct kv_tree_builder *builder, const struct kv_record *record)
{
	struct kv_node *nodes[KV_LEVELS_MAX];
	const struct kv_node *leaf = builder->levels[0].node;
	size_t size = kv_separator_size(leaf->records[leaf->count - 1], record);
	struct kv_record *separator;
	unsigned top = 1;

	while (builder->levels[top].node->count == builder->levels[top].slots)
		top++;
	raft_assert(top < builder->height);
	separator = kv_record_alloc(size, 0, 0);
	if (separator == NULL)
		return false;
	kv_put_bytes(separator->bytes, kv_record_key(record), size);
	if (!alloc_branch(nodes, top)) {
		kv_record_unref(separator);
		return false;
	}
	for (unsigned i = 0; i < top; i++)
		close_node(builder, i, separator);
	open_branch(builder, nodes, top);
	add_slot(builder->levels[top].node, separator, nodes[top - 1]);
	builder->tree.memory += kv_record_memory(separator);
	return true;
}

bool kv_tree_builder_append(struct kv_tree_builder *builder, struct kv_record *record)
{
	raft_assert(builder->keys > 0);
	if (builder->tree.root == NULL) {
		if (!begin(builder))
			return false;
	} else if (builder->levels[0].node->count == builder->levels[0].slots) {
		if (!open_leaf(builder, record))
			return false;
	}
	add_slot(builder->levels[0].node, record, NULL);
	builder->tree.memory += kv_record_memory(record);
	builder->keys--;
	return true;
}

struct kv_tree kv_tree_builder_finish(struct kv_tree_builder *builder)
{
	struct kv_tree tree = builder->tree;

	raft_assert(builder->keys == 0);
	for (unsigned i = 0; i < builder->height; i++)
		close_node(builder, i, NULL);
	builder->tree = (struct kv_tree){.root = NULL};
	return tree;
}
