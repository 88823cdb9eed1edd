/*
 * The tests of the store once more, over nodes of eight slots: a tree of a few thousand keys is then five or six
 * levels high, and inner nodes are split, merged and evened out as often as leaves.
 *
 * The parts of the store that know the size of a node are compiled into this file; the linker takes the rest from
 * the library.
 */
#define KV_NODE_SLOTS 8u

#include "kv/node.c"
#include "kv/tree.c"
#include "kv/tree_check.c"
#include "kv/snapshot.c"
#include "kv/store.c"

#include "tests/unit/test_kv_store.c"
