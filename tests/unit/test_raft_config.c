/*
 * Claims about configurations (daemon/raft/config_codec.h): their bytes, what is valid, and what may follow what.
 */
#include "daemon/raft/config_codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct raft_config config_of(const char *roles)
{
	struct raft_config config;

	/* One letter a member from id 1 on: V, L, J, or - for none. */
	memset(&config, 0, sizeof(config));
	config.level = RAFT_LEVEL_MIN;
	for (uint64_t id = 1; roles[id - 1]; id++) {
		struct raft_config_member member;

		memset(&member, 0, sizeof(member));
		member.id = id;
		member.incarnation = id * 100;
		member.role = roles[id - 1] == 'V'   ? RAFT_MEMBER_VOTER
			      : roles[id - 1] == 'L' ? RAFT_MEMBER_LEARNER
						     : RAFT_MEMBER_JOINING;
		(void)snprintf(member.peer_endpoint, sizeof(member.peer_endpoint), "tcp://10.0.0.%u:1",
			       (unsigned)id % 100);
		if (roles[id - 1] != '-')
			assert_true(raft_config_set(&config, &member));
	}
	return config;
}

static const char *step(const char *before, const char *after)
{
	struct raft_config a = config_of(before);
	struct raft_config b = config_of(after);

	return raft_config_step_problem(&a, &b);
}

static void test_bytes_are_as_documented(void **state) /* daemon/raft/README.md */
{
	static const uint8_t golden[] = {1, 1, 0, 0, 7, 0, 0, 0, 0, 0,	 0,   0,   8,	7,  6,
					 5, 4, 3, 2, 1, 3, 3, 2, 0, 'a', 'b', 'c', 'x', 'y'};
	struct raft_config config = {.level = RAFT_LEVEL_MIN, .n_members = 1};
	uint8_t bytes[RAFT_CONFIG_SIZE_MAX];

	(void)state;
	config.members[0] = (struct raft_config_member){.id = 7, .incarnation = 0x0102030405060708u};
	config.members[0].role = RAFT_MEMBER_JOINING;
	strcpy(config.members[0].peer_endpoint, "abc");
	strcpy(config.members[0].client_endpoint, "xy");
	assert_string_equal(raft_config_problem(&config), "there is no voter");
	config.members[0].role = RAFT_MEMBER_VOTER;
	assert_int_equal(raft_config_encode(&config, bytes), sizeof(golden));
	bytes[20] = RAFT_MEMBER_JOINING;
	assert_memory_equal(bytes, golden, sizeof(golden));
	config.level = 3; /* version 2, and the level in the third byte; nothing else */
	assert_int_equal(raft_config_encode(&config, bytes), sizeof(golden));
	assert_memory_equal(bytes, "\x02\x01\x03\x00", 4);
	bytes[20] = RAFT_MEMBER_JOINING;
	assert_memory_equal(bytes + 4, golden + 4, sizeof(golden) - 4);
}

static void test_level_never_goes_back(void **state)
{
	struct raft_config a = config_of("VVV");
	struct raft_config b = a;

	(void)state;
	b.level = 2;
	assert_null(raft_config_step_problem(&a, &b));
	assert_string_equal(raft_config_step_problem(&b, &a), "the feature level never goes back");
	b.level = 0;
	assert_non_null(raft_config_problem(&b));
	b.level = RAFT_LEVEL_LIMIT + 1;
	assert_non_null(raft_config_problem(&b));
}

/* Whatever the version of the rest: who cannot read it can still say which level it needs. */
static void test_level_is_read_without_the_rest(void **state)
{
	struct raft_config config = config_of("VLJ");
	struct raft_config back;
	uint8_t bytes[RAFT_CONFIG_SIZE_MAX];
	size_t len;

	(void)state;
	len = raft_config_encode(&config, bytes);
	assert_int_equal(raft_config_level(bytes, len), 1);
	config.level = 7;
	len = raft_config_encode(&config, bytes);
	assert_int_equal(raft_config_level(bytes, len), 7);
	assert_int_equal(raft_config_decode(bytes, len, &back), RAFT_CONFIG_OK);
	assert_int_equal(back.level, 7);
	bytes[0] = 3;
	assert_int_equal(raft_config_decode(bytes, len, &back), RAFT_CONFIG_E_VERSION);
	assert_int_equal(raft_config_level(bytes, len), 7);
	assert_int_equal(raft_config_level(bytes, 3), 0);
}

static void test_round_trip_at_full_size(void **state)
{
	struct raft_config config = config_of("VVVVVVVVVVVVVVJ");
	struct raft_config back;
	uint8_t bytes[RAFT_CONFIG_SIZE_MAX];

	(void)state;
	for (unsigned i = 0; i < config.n_members; i++) {
		memset(config.members[i].peer_endpoint, 'p', RAFT_ENDPOINT_MAX);
		memset(config.members[i].client_endpoint, 'c', RAFT_ENDPOINT_MAX);
	}
	assert_int_equal(raft_config_encode(&config, bytes), RAFT_CONFIG_SIZE_MAX);
	assert_int_equal(raft_config_decode(bytes, sizeof(bytes), &back), RAFT_CONFIG_OK);
	assert_memory_equal(&back, &config, sizeof(config));
	config.members[3].peer_endpoint[RAFT_ENDPOINT_MAX] = 'p';
	assert_non_null(raft_config_problem(&config));
}

/* Exact buffers, so that the sanitized build sees every byte read beyond them. */
static int decode_copy(const uint8_t *bytes, size_t len, struct raft_config *ret)
{
	uint8_t *exact = malloc(len + 1);
	int r;

	assert_non_null(exact);
	memcpy(exact + 1, bytes, len);
	r = raft_config_decode(exact + 1, len, ret);
	free(exact);
	return r;
}

static void test_no_bytes_do_harm(void **state)
{
	struct raft_config config = config_of("VLJ");
	struct raft_config back;
	uint8_t bytes[RAFT_CONFIG_SIZE_MAX + 1] = {0};
	uint8_t again[RAFT_CONFIG_SIZE_MAX];
	size_t len = raft_config_encode(&config, bytes);

	(void)state;
	for (size_t n = 0; n < len; n++)
		assert_int_equal(decode_copy(bytes, n, &back), RAFT_CONFIG_E_FORMAT);
	assert_int_equal(decode_copy(bytes, len + 1, &back), RAFT_CONFIG_E_FORMAT);
	for (size_t at = 0; at < len; at++) {
		for (unsigned value = 0; value < 256; value++) {
			uint8_t was = bytes[at];

			bytes[at] = (uint8_t)value;
			if (decode_copy(bytes, len, &back) == RAFT_CONFIG_OK) {
				assert_null(raft_config_problem(&back));
				assert_int_equal(raft_config_encode(&back, again), len);
				assert_memory_equal(again, bytes, len);
			}
			bytes[at] = was;
		}
	}
	bytes[0] = 3;
	assert_int_equal(decode_copy(bytes, len, &back), RAFT_CONFIG_E_VERSION);
	bytes[0] = 0;
	assert_int_equal(decode_copy(bytes, len, &back), RAFT_CONFIG_E_FORMAT);
}

static void test_what_is_valid(void **state)
{
	struct raft_config config = config_of("VLJ");

	(void)state;
	assert_null(raft_config_problem(&config));
	config.members[1].id = 1;
	assert_non_null(raft_config_problem(&config)); /* twice */
	config = config_of("VLJ");
	config.members[0].id = 0;
	assert_non_null(raft_config_problem(&config));
	config = config_of("VLJ");
	config.members[0].role = RAFT_MEMBER_LEARNER;
	assert_non_null(raft_config_problem(&config)); /* no voter */
	config.members[0].role = (enum raft_member_role)9;
	assert_non_null(raft_config_problem(&config));
	config.n_members = RAFT_MEMBERS_MAX + 1;
	assert_non_null(raft_config_problem(&config));
	config.n_members = 0;
	assert_non_null(raft_config_problem(&config));
}

static void test_one_voter_at_a_time(void **state) /* dissertation, section 4.1 */
{
	struct raft_config a = config_of("VVV");
	struct raft_config b = a;

	(void)state;
	assert_null(step("VVV", "VVV"));
	assert_null(step("VVJ", "VVV"));
	assert_null(step("VVVV", "VVV"));
	assert_null(step("VVV", "VV-"));
	assert_null(step("VVV", "VVL"));
	assert_null(step("V", "VJJLL"));
	assert_null(step("VJJLL", "V"));
	assert_non_null(step("VJJ", "VVV"));
	assert_non_null(step("VVV", "V"));
	assert_non_null(step("VVJ", "VLV")); /* one out, one in */
	assert_non_null(step("VV", "VVV"));  /* never a learner */
	b.members[1].incarnation = 201;
	assert_non_null(raft_config_step_problem(&a, &b)); /* an empty disk votes */
	b.members[1].role = RAFT_MEMBER_JOINING;
	assert_null(raft_config_step_problem(&a, &b));
	a.members[1].incarnation = 0;
	b.members[1].role = RAFT_MEMBER_VOTER;
	assert_null(raft_config_step_problem(&a, &b)); /* it was not known and now is */
	assert_non_null(raft_config_step_problem(&b, &a));
}

static void test_members_are_kept_in_order(void **state)
{
	struct raft_config config = config_of("V-V-V");
	struct raft_config_member member = {.id = 4, .role = RAFT_MEMBER_LEARNER};

	(void)state;
	assert_true(raft_config_set(&config, &member));
	assert_null(raft_config_problem(&config));
	assert_int_equal(config.n_members, 4);
	assert_int_equal(raft_config_find(&config, 4)->role, RAFT_MEMBER_LEARNER);
	assert_true(raft_config_remove(&config, 1));
	assert_false(raft_config_remove(&config, 1));
	assert_null(raft_config_find(&config, 1));
	assert_null(raft_config_problem(&config));
	for (member.id = 6; config.n_members < RAFT_MEMBERS_MAX; member.id++)
		assert_true(raft_config_set(&config, &member));
	assert_false(raft_config_set(&config, &member));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_level_never_goes_back),
		cmocka_unit_test(test_level_is_read_without_the_rest),
		cmocka_unit_test(test_bytes_are_as_documented), cmocka_unit_test(test_round_trip_at_full_size),
		cmocka_unit_test(test_no_bytes_do_harm),	cmocka_unit_test(test_what_is_valid),
		cmocka_unit_test(test_one_voter_at_a_time),	cmocka_unit_test(test_members_are_kept_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
