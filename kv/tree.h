/*
 * The ordered map: a copy-on-write B+tree of records. See node.h for what a node looks like.
 *
 * A change is made in two steps: kv_tree_seek finds the place, and its caller decides from what is there whether to
 * change anything; then kv_tree_put or kv_tree_remove changes it, copying those nodes on the way that somebody else
 * holds too. Nothing is copied for a change that is not made.
 *
 * Knows nothing of commands, sessions and hashes.
 */
#ifndef KV_TREE_H
#define KV_TREE_H

#include "kv/node.h"

struct kv_tree {
	struct kv_node *root; /* NULL when empty */
	uint64_t nodes;	      /* reachable from the root */
	uint64_t memory;      /* bytes of nodes, records and separators reachable from the root */
};

/* The way from the root to a slot of a leaf. */
struct kv_path {
	struct {
		struct kv_node *node;
		unsigned slot;
	} steps[KV_LEVELS_MAX];
	unsigned height; /* 0: the tree is empty */
	bool found; /* the leaf's slot has the key; else it is where the key belongs, maybe one past the last slot */
};

/* The record with this key, or NULL. */
const struct kv_record *kv_tree_find(const struct kv_node *root, const uint8_t *key, size_t key_size);

void kv_tree_seek(struct kv_node *root, const uint8_t *key, size_t key_size, struct kv_path *ret_path);
/* The record at the path, or NULL past the end of a leaf. */
struct kv_record *kv_path_record(const struct kv_path *path);
/* Moves to the next record: from a path past the end of a leaf, or from a record to its successor. False: no more. */
bool kv_path_next(struct kv_path *path);
/* Moves onto a record if the path is past the end of a leaf. False: there is none up to the end of the tree. */
bool kv_path_settle(struct kv_path *path);

/* The separators around the node at steps[depth], in whichever node above they are; NULL: no bound. */
const struct kv_record *kv_path_bound_below(const struct kv_path *path, unsigned depth);
const struct kv_record *kv_path_bound_above(const struct kv_path *path, unsigned depth);
/* How many bytes all keys between the two have in common: the most that a node's skip can be. */
size_t kv_bounds_common(const struct kv_record *below, const struct kv_record *above);

/* How many bytes of the key of right are the shortest key that is above left and not above right: the separator of two
 * leaves of which these are the last and the first record. */
size_t kv_separator_size(const struct kv_record *left, const struct kv_record *right);

/* These use the path of the last seek up; the tree must not have changed since. */
const struct kv_record *kv_tree_put(struct kv_tree *tree, struct kv_path *path, const uint8_t *key, size_t key_size,
				    const uint8_t *value, uint32_t value_size, uint64_t revision);
void kv_tree_remove(struct kv_tree *tree, struct kv_path *path); /* path->found */

/* Aborts when the shape of the tree, its order, a prefix or a count is wrong. */
void kv_tree_check(const struct kv_tree *tree);

#endif
