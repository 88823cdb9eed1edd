/*
 * Bodies of the operators' requests (kv/admin.h): golden bytes by the tables, round trips, and that no truncation and no
 * impossible field is taken.
 */
#include "kv/admin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A copy that ends where its heap block ends, so that a sanitizer sees a read beyond it. */
static uint8_t *copy_of(const uint8_t *bytes, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, size);
	return copy;
}

static bool decode_membership(const uint8_t *bytes, size_t size, struct kv_membership *ret)
{
	uint8_t *copy = copy_of(bytes, size);
	bool good = kv_membership_decode(copy, size, ret);

	free(copy);
	return good;
}

static bool decode_change(const uint8_t *bytes, size_t size, struct kv_change *ret)
{
	uint8_t *copy = copy_of(bytes, size);
	bool good = kv_change_decode(copy, size, ret);

	free(copy);
	return good;
}

static const uint8_t golden_membership[] = {
	9,   0,	  0,   0,   0,	 0,   0, 0,	 /* index */
	1,   0,	  0,   0,			 /* committed */
	2,   0,	  0,   0,			 /* count */
	1,   0,	  0,   0,   0,	 0,   0, 0,	 /* id */
	5,   0,	  0,   0,   0,	 0,   0, 0,	 /* incarnation */
	1,   0,	  0,   0,   4,	 0,   2, 0,	 /* role, sizes */
	'i', 'p', 'c', ':', 'a', 'b',		 /* endpoints */
	3,   0,	  0,   0,   0,	 0,   0, 0,	 /* id */
	0,   0,	  0,   0,   0,	 0,   0, 0,	 /* incarnation */
	3,   0,	  0,   0,   0,	 0,   1, 0, 'x', /* role, sizes, endpoints */
};

static struct kv_membership sample_membership(void)
{
	struct kv_membership membership = {.index = 9, .committed = true, .count = 2};

	membership.members[0] =
		(struct kv_member){.id = 1, .incarnation = 5, .role = KV_MEMBER_VOTER, .peer = "ipc:", .client = "ab"};
	membership.members[1] = (struct kv_member){.id = 3, .role = KV_MEMBER_JOINING, .client = "x"};
	return membership;
}

static void test_membership_has_its_documented_bytes(void **state)
{
	struct kv_membership membership = sample_membership(), got;
	uint8_t bytes[sizeof golden_membership];

	(void)state;
	assert_int_equal(kv_membership_size(&membership), sizeof bytes);
	memset(bytes, 0xee, sizeof bytes);
	kv_membership_encode(bytes, &membership);
	assert_memory_equal(bytes, golden_membership, sizeof bytes);
	assert_true(decode_membership(bytes, sizeof bytes, &got));
	assert_true(got.index == 9 && got.committed && got.count == 2);
	assert_true(got.members[0].id == 1 && got.members[0].incarnation == 5);
	assert_int_equal(got.members[0].role, KV_MEMBER_VOTER);
	assert_string_equal(got.members[0].peer, "ipc:");
	assert_string_equal(got.members[0].client, "ab");
	assert_true(got.members[1].id == 3 && got.members[1].role == KV_MEMBER_JOINING);
	assert_string_equal(got.members[1].peer, "");
	assert_string_equal(got.members[1].client, "x");
}

static void test_damaged_memberships_are_refused(void **state)
{
	struct kv_membership got;
	static const struct {
		size_t at;
		uint8_t value;
	} changes[] = {
		{8, 2},	   /* committed: neither yes nor no */
		{9, 1},	   /* reserved */
		{12, 3},   /* more members than bytes */
		{12, 1},   /* fewer */
		{12, 16},  /* more than can be */
		{32, 0},   /* role */
		{32, 4},   /* role */
		{33, 1},   /* reserved */
		{36, 255}, /* an endpoint beyond the end */
		{40, ' '}, /* not printable */
		{46, 1},   /* ids not ascending */
	};

	(void)state;
	for (size_t size = 0; size < sizeof golden_membership; size++)
		assert_false(decode_membership(golden_membership, size, &got));
	for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
		uint8_t bytes[sizeof golden_membership];
		memcpy(bytes, golden_membership, sizeof bytes);
		bytes[changes[i].at] = changes[i].value;
		assert_false(decode_membership(bytes, sizeof bytes, &got));
	}
}

static const uint8_t golden_change[] = {
	1,   1,	  3,   0,   2,	 0, 0, 0, /* type, flags, sizes */
	7,   0,	  0,   0,   0,	 0, 0, 0, /* id */
	8,   1,	  0,   0,   0,	 0, 0, 0, /* if_index */
	'p', 'e', 'r', 'c', 'l',	  /* endpoints */
};

static void test_change_has_its_documented_bytes(void **state)
{
	struct kv_change change = {.type = KV_CHANGE_ADD,
				   .flags = KV_CHANGE_STAY_LEARNER,
				   .id = 7,
				   .if_index = 264,
				   .peer = "per",
				   .client = "cl"};
	struct kv_change got;
	uint8_t bytes[sizeof golden_change];

	(void)state;
	assert_int_equal(kv_change_size(&change), sizeof bytes);
	kv_change_encode(bytes, &change);
	assert_memory_equal(bytes, golden_change, sizeof bytes);
	assert_true(decode_change(bytes, sizeof bytes, &got));
	assert_true(got.type == KV_CHANGE_ADD && got.flags == KV_CHANGE_STAY_LEARNER);
	assert_true(got.id == 7 && got.if_index == 264);
	assert_string_equal(got.peer, "per");
	assert_string_equal(got.client, "cl");
}

static void test_damaged_changes_are_refused(void **state)
{
	struct kv_change got;
	uint8_t bytes[sizeof golden_change];
	static const struct {
		size_t at;
		uint8_t value;
	} changes[] = {{0, 0}, {0, 5}, {1, 2}, {2, 4}, {4, 1}, {6, 1}, {24, 0}, {28, 0x7f}};

	(void)state;
	for (size_t size = 0; size < sizeof golden_change; size++)
		assert_false(decode_change(golden_change, size, &got));
	for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
		memcpy(bytes, golden_change, sizeof bytes);
		bytes[changes[i].at] = changes[i].value;
		assert_false(decode_change(bytes, sizeof bytes, &got));
	}
}

static void test_an_endpoint_over_the_limit_is_refused(void **state)
{
	uint8_t bytes[24 + KV_ENDPOINT_MAX + 1];
	struct kv_change got;

	(void)state;
	memset(bytes, 'a', sizeof bytes);
	memcpy(bytes, golden_change, 24);
	bytes[2] = KV_ENDPOINT_MAX;
	bytes[4] = 0;
	assert_true(decode_change(bytes, sizeof bytes - 1, &got));
	assert_int_equal(strlen(got.peer), KV_ENDPOINT_MAX);
	bytes[2]++;
	assert_false(decode_change(bytes, sizeof bytes, &got));
}

static void test_backup_request(void **state)
{
	static const uint8_t golden[KV_BACKUP_BODY_SIZE] = {4, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0,
							    0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0};
	struct kv_backup_request request = {.pin = 4, .offset = 256, .size = 512}, got;
	uint8_t bytes[KV_BACKUP_BODY_SIZE];

	(void)state;
	kv_backup_encode(bytes, &request);
	assert_memory_equal(bytes, golden, sizeof bytes);
	assert_true(kv_backup_decode(bytes, sizeof bytes, &got));
	assert_true(got.pin == 4 && got.offset == 256 && got.size == 512);
	assert_false(kv_backup_decode(bytes, sizeof bytes - 1, &got));
	bytes[20] = 1;
	assert_false(kv_backup_decode(bytes, sizeof bytes, &got));
	bytes[20] = bytes[17] = 0;
	assert_false(kv_backup_decode(bytes, sizeof bytes, &got)); /* nothing wanted */
}

static struct kv_beats sample_beats(void)
{
	struct kv_beats beats = {
		.id = 2, .role = 3, .term = 7, .leader = 2, .heartbeat_us = 50000, .voters = 3, .newest = 9};

	beats.count = 2;
	beats.beats[0] = (struct kv_beat){.number = 8, .term = 6, .age_us = 70000};
	beats.beats[1] = (struct kv_beat){
		.number = 9, .term = 7, .age_us = 20000, .quorum = 1, .quorum_us = 400, .n_answers = 2};
	beats.beats[1].answers[0].id = 3;
	beats.beats[1].answers[0].after_us = 400;
	beats.beats[1].answers[1].id = 1;
	beats.beats[1].answers[1].after_us = 512;
	return beats;
}

static bool decode_beats(const uint8_t *bytes, size_t size, struct kv_beats *ret)
{
	uint8_t *copy = copy_of(bytes, size);
	bool good = kv_beats_decode(copy, size, ret);

	free(copy);
	return good;
}

static void beats_come_back_and_nothing_else_does(void **state)
{
	(void)state;
	struct kv_beats beats = sample_beats(), decoded;
	uint8_t data[512];
	size_t size = kv_beats_size(&beats);

	memset(&decoded, 0xff, sizeof decoded);
	assert_int_equal(size, 64 + 48 + 48 + 2 * 16);
	kv_beats_encode(data, &beats);
	assert_true(decode_beats(data, size, &decoded));
	assert_memory_equal(&decoded, &beats, sizeof beats);
	assert_int_equal(data[64 + 48], 9);	      /* number of the second */
	assert_int_equal(data[64 + 48 + 24], 1);      /* its quorum */
	assert_int_equal(data[64 + 48 + 48 + 16], 1); /* who answered last */
	for (size_t cut = 0; cut < size; cut++)
		assert_false(decode_beats(data, cut, &decoded));
	data[56] = KV_BEATS_MAX + 1; /* count */
	assert_false(decode_beats(data, size, &decoded));
	data[56] = 1;
	assert_false(decode_beats(data, size, &decoded));
	data[56] = 2;
	data[64 + 24] = 2; /* quorum is yes or no */
	assert_false(decode_beats(data, size, &decoded));
	data[64 + 24] = 0;
	data[64 + 40 + 7] = 0xff; /* answers, however many */
	assert_false(decode_beats(data, size, &decoded));
	uint8_t body[KV_BEATS_BODY_SIZE];
	uint64_t after = 0;
	kv_beats_request_encode(body, 77);
	assert_true(kv_beats_request_decode(body, sizeof body, &after) && after == 77);
	assert_false(kv_beats_request_decode(body, sizeof body - 1, &after));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_membership_has_its_documented_bytes),
		cmocka_unit_test(test_damaged_memberships_are_refused),
		cmocka_unit_test(test_change_has_its_documented_bytes),
		cmocka_unit_test(test_damaged_changes_are_refused),
		cmocka_unit_test(test_an_endpoint_over_the_limit_is_refused),
		cmocka_unit_test(test_backup_request),
		cmocka_unit_test(beats_come_back_and_nothing_else_does),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
