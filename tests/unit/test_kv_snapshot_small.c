/*
 * The tests of snapshots once more, over nodes of eight slots, as test_kv_store_small.c does it: a tree that is loaded
 * is then five or six levels high.
 */
#define KV_NODE_SLOTS 8u

#include "kv/node.c"
#include "kv/tree.c"
#include "kv/tree_build.c"
#include "kv/tree_check.c"
#include "kv/snapshot.c"
#include "kv/snapshot_load.c"
#include "kv/snapshot_stream.c"
#include "kv/store.c"

#include "tests/unit/test_kv_snapshot.c"
