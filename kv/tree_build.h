/*
 * Building a tree from records that come in order: each node is filled once, nothing is searched or split.
 *
 * How many keys will come is known beforehand, so that every node is given its share and none ends up too empty.
 * Unlike the functions of tree.h these may run out of memory and say so.
 */
#ifndef KV_TREE_BUILD_H
#define KV_TREE_BUILD_H

#include "kv/tree.h"

/* A tree of more keys could be higher than KV_LEVELS_MAX. */
#define KV_TREE_BUILD_KEYS_MAX (UINT64_C(1) << 56)

struct kv_tree_builder {
	struct kv_tree tree;
	uint64_t keys;	 /* that are still to come */
	unsigned height; /* levels that the tree will have */
	struct {
		struct kv_node *node;	 /* the one that is being filled, rightmost of its level */
		uint64_t slots_per_node; /* each node gets so many slots, */
		uint64_t wider_nodes;	 /* and so many of those still to be opened get one more */
		unsigned slots;		 /* that this one gets */
	} levels[KV_LEVELS_MAX];
};

void kv_tree_builder_init(struct kv_tree_builder *builder, uint64_t keys);
/* Drops what was built and not taken. */
void kv_tree_builder_fini(struct kv_tree_builder *builder);
/* Takes over the record, whose key is above that of every record before. False: no memory, and it was not taken. */
bool kv_tree_builder_append(struct kv_tree_builder *builder, struct kv_record *record)
	__attribute__((warn_unused_result));
/* After the last key: hands over the tree. */
struct kv_tree kv_tree_builder_finish(struct kv_tree_builder *builder);

#endif
