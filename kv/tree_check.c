/*
 * The tree's self-check, for tests: every rule that node.h and tree.h state, node by node.
 *
 * Knows of records' values only that they are counted.
 */
#include "kv/tree.h"

#include "daemon/assert.h"

/* above > below, where NULL is no bound. */
static void check_order(const struct kv_record *below, const struct kv_record *above, bool may_be_equal)
{
	int order;

	if (below == NULL || above == NULL)
		return;
	order = kv_record_compare(above, kv_record_key(below), kv_record_key_size(below), 0);
	raft_assert(order > 0 || (may_be_equal && order == 0));
}

static void check_records(const struct kv_node *node, const struct kv_record *below, const struct kv_record *above)
{
	const struct kv_record *previous = below;

	for (unsigned i = 0; i < node->count; i++) {
		const struct kv_record *record = node->records[i];

		if (node->level > 0 && i == 0) {
			raft_assert(record == NULL && node->prefixes[i] == 0);
			continue;
		}
		raft_assert(record != NULL);
		raft_assert(atomic_load(&record->references) > 0);
		raft_assert(node->level == 0 || kv_record_value_size(record) == 0);
		raft_assert(node->prefixes[i] ==
			    kv_prefix(kv_record_key(record), kv_record_key_size(record), node->skip));
		/* A leaf's first key may be the very separator. */
		check_order(previous, record, i == 0);
		previous = record;
	}
	check_order(previous, above, false);
}

static void check_node(const struct kv_path *path, unsigned depth)
{
	const struct kv_node *node = path->steps[depth].node;
	const struct kv_record *below = kv_path_bound_below(path, depth), *above = kv_path_bound_above(path, depth);

	raft_assert(atomic_load(&node->references) > 0);
	raft_assert(node->count <= KV_NODE_SLOTS);
	if (depth > 0) {
		raft_assert(node->level + 1 == path->steps[depth - 1].node->level);
		raft_assert(node->count >= KV_NODE_SLOTS_MIN);
	} else {
		raft_assert(node->count >= (node->level > 0 ? 2 : 1));
	}
	raft_assert(node->skip <= kv_bounds_common(below, above));
	check_records(node, below, above);
}

static uint64_t memory_of(const struct kv_node *node)
{
	uint64_t memory = kv_node_memory(node);

	for (unsigned i = 0; i < node->count; i++)
		if (node->records[i] != NULL)
			memory += kv_record_memory(node->records[i]);
	return memory;
}

void kv_tree_check(const struct kv_tree *tree)
{
	struct kv_path path = {.height = 0};
	uint64_t nodes = 0, memory = 0;
	unsigned depth = 0;

	if (tree->root != NULL) {
		path.steps[0].node = tree->root;
		path.steps[0].slot = 0;
		path.height = 1;
	}
	while (path.height > 0) {
		struct kv_node *node;

		depth = path.height - 1;
		node = path.steps[depth].node;
		if (path.steps[depth].slot == 0) {
			check_node(&path, depth);
			nodes++;
			memory += memory_of(node);
		}
		/* Down into the next child; when there is none left, up to the next sibling. */
		if (node->level > 0 && path.steps[depth].slot < node->count) {
			raft_assert(path.height < KV_LEVELS_MAX);
			path.steps[depth + 1].node = node->children[path.steps[depth].slot];
			path.steps[depth + 1].slot = 0;
			path.height++;
			continue;
		}
		path.height--;
		if (path.height > 0)
			path.steps[path.height - 1].slot++;
	}
	raft_assert(nodes == tree->nodes);
	raft_assert(memory == tree->memory);
}
