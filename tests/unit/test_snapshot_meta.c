/*
 * What the replica keeps in a snapshot (daemon/replicator/snapshot_meta.h): read back, cut, too long.
 */
#include "daemon/replicator/snapshot_meta.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct raft_config config = {.level = 2,
					  .n_members = 1,
					  .members = {{.id = 3, .role = RAFT_MEMBER_VOTER, .peer_endpoint = "p"}}};

static void time_and_configuration_are_read_back(void **state)
{
	uint8_t bytes[SNAPSHOT_META_SIZE_MAX];
	struct raft_config decoded;
	uint64_t time_ms;
	(void)state;
	uint32_t size = snapshot_meta_encode(0x0102030405060708, &config, bytes);
	assert_int_equal(bytes[0], 8);
	assert_true(snapshot_meta_decode(bytes, size, &time_ms, &decoded));
	assert_true(time_ms == 0x0102030405060708);
	assert_memory_equal(&decoded, &config, sizeof config);
	size = snapshot_meta_encode(7, NULL, bytes);
	assert_int_equal(size, SNAPSHOT_META_HEADER_SIZE);
	assert_true(snapshot_meta_decode(bytes, size, &time_ms, &decoded));
	assert_int_equal(time_ms, 7);
	assert_int_equal(decoded.n_members, 0);
}

static void other_lengths_are_refused(void **state)
{
	uint8_t bytes[SNAPSHOT_META_SIZE_MAX + 1] = {0};
	struct raft_config decoded;
	uint64_t time_ms;
	(void)state;
	uint32_t size = snapshot_meta_encode(7, &config, bytes);
	for (uint32_t cut = 0; cut <= size + 1; cut++)
		assert_int_equal(snapshot_meta_decode(bytes, cut, &time_ms, &decoded),
				 cut == size || cut == SNAPSHOT_META_HEADER_SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(time_and_configuration_are_read_back),
		cmocka_unit_test(other_lengths_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
