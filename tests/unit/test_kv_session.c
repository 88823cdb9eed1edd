/*
 * Sessions (kv/session.h), through the store: a request that arrives twice takes effect once and gets its first reply;
 * what is kept is bounded; what expires is decided by the log alone.
 */
#include "kv/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

struct log {
	struct kv_store *store;
	uint64_t index;
};

static struct log log_new(void)
{
	struct log log = {.store = kv_store_new()};

	assert_non_null(log.store);
	return log;
}

static void log_free(struct log *log)
{
	kv_store_check(log->store);
	log->store = kv_store_free(log->store);
}

static struct kv_reply apply(struct log *log, const struct kv_command *command)
{
	uint8_t bytes[256];

	assert_true(kv_command_size(command) <= sizeof(bytes));
	kv_command_encode(command, bytes);
	return kv_store_apply(log->store, ++log->index, 0, bytes, kv_command_size(command));
}

static uint64_t open_session(struct log *log)
{
	struct kv_reply reply = apply(log, &(struct kv_command){.operation = KV_REGISTER, .expected = 77});

	assert_int_equal(reply.status, KV_OK);
	assert_int_equal(reply.revision, log->index);
	return reply.revision;
}

static struct kv_reply put(struct log *log, uint64_t session, uint64_t sequence, uint64_t acknowledged)
{
	return apply(log, &(struct kv_command){.operation = KV_PUT,
					       .session = session,
					       .sequence = sequence,
					       .acknowledged = acknowledged,
					       .key = (const uint8_t *)"key",
					       .key_size = 3,
					       .value = (const uint8_t *)&sequence,
					       .value_size = sizeof(sequence)});
}

static struct kv_reply nothing(struct log *log, uint64_t session, uint64_t sequence, uint64_t acknowledged)
{
	return apply(log, &(struct kv_command){.operation = KV_NOTHING,
					       .session = session,
					       .sequence = sequence,
					       .acknowledged = acknowledged});
}

static void assert_reply(struct kv_reply reply, enum kv_status status, uint64_t revision)
{
	assert_int_equal(reply.status, status);
	assert_int_equal(reply.revision, revision);
}

static void assert_revision(struct log *log, uint64_t revision)
{
	struct kv_value value;

	assert_true(kv_store_get(log->store, (const uint8_t *)"key", 3, &value));
	assert_int_equal(value.revision, revision);
}

static struct kv_stats stats_of(struct log *log)
{
	struct kv_stats stats;

	kv_store_stats(log->store, &stats);
	return stats;
}

static void retried_request_takes_effect_once_and_returns_its_first_reply(void **state)
{
	struct log log = log_new();
	uint64_t session = open_session(&log);

	(void)state;
	assert_reply(put(&log, session, 1, 1), KV_OK, 2);
	assert_reply(put(&log, session, 2, 1), KV_OK, 3);
	assert_reply(put(&log, session, 1, 1), KV_OK, 2);
	assert_reply(put(&log, session, 2, 1), KV_OK, 3);
	assert_revision(&log, 3);
	assert_reply(put(&log, session, 3, 1), KV_OK, 6);
	log_free(&log);
}

static void replies_other_than_ok_are_repeated_too(void **state)
{
	struct log log = log_new();
	uint64_t session = open_session(&log);
	struct kv_command remove = {.operation = KV_DELETE,
				    .session = session,
				    .sequence = 1,
				    .key = (const uint8_t *)"key",
				    .key_size = 3};
	struct kv_command cas = remove;

	(void)state;
	cas.operation = KV_CAS;
	cas.sequence = 3;
	cas.expected = 1000;
	assert_reply(apply(&log, &remove), KV_NOT_FOUND, 0);
	assert_reply(put(&log, session, 2, 1), KV_OK, 3);
	assert_reply(apply(&log, &cas), KV_CAS_MISMATCH, 3);
	assert_reply(put(&log, session, 4, 1), KV_OK, 5);
	assert_reply(apply(&log, &remove), KV_NOT_FOUND, 0);
	assert_reply(apply(&log, &cas), KV_CAS_MISMATCH, 3);
	assert_revision(&log, 5);
	log_free(&log);
}

static void gap_is_refused_and_the_expected_number_told(void **state)
{
	struct log log = log_new();
	uint64_t session = open_session(&log);

	(void)state;
	assert_reply(put(&log, session, 2, 1), KV_OUT_OF_ORDER, 1);
	assert_reply(put(&log, session, 1, 1), KV_OK, 3);
	assert_reply(put(&log, session, 3, 1), KV_OUT_OF_ORDER, 2);
	assert_reply(put(&log, session, UINT64_MAX, 1), KV_OUT_OF_ORDER, 2);
	assert_reply(put(&log, session, 2, 1), KV_OK, 6);
	log_free(&log);
}

static void acknowledged_replies_are_gone(void **state)
{
	struct log log = log_new();
	uint64_t session = open_session(&log);

	(void)state;
	for (uint64_t i = 1; i <= 5; i++)
		assert_reply(put(&log, session, i, 1), KV_OK, i + 1);
	assert_reply(put(&log, session, 6, 4), KV_OK, 7);
	assert_reply(put(&log, session, 3, 1), KV_ALREADY_ACKNOWLEDGED, 0);
	assert_reply(put(&log, session, 0, 1), KV_ALREADY_ACKNOWLEDGED, 0);
	assert_reply(put(&log, session, 4, 1), KV_OK, 5); /* a smaller number takes no acknowledgement back */
	assert_reply(put(&log, session, 6, 7), KV_ALREADY_ACKNOWLEDGED, 0);
	assert_revision(&log, 7);
	log_free(&log);
}

static void acknowledgement_of_the_future_counts_up_to_the_present(void **state)
{
	struct log log = log_new();
	uint64_t session = open_session(&log);

	(void)state;
	assert_reply(put(&log, session, 1, UINT64_MAX), KV_OK, 2);
	assert_reply(put(&log, session, 1, 1), KV_OK, 2); /* its own reply cannot have been acknowledged */
	assert_reply(put(&log, session, 2, UINT64_MAX), KV_OK, 4);
	assert_reply(put(&log, session, 1, 1), KV_ALREADY_ACKNOWLEDGED, 0);
	assert_reply(put(&log, session, 2, 1), KV_OK, 4);
	log_free(&log);
}

static void nothing_takes_a_sequence_number(void **state)
{
	struct log log = log_new();
	uint64_t session = open_session(&log);

	(void)state;
	assert_reply(nothing(&log, session, 1, 1), KV_OK, 0);
	assert_reply(put(&log, session, 1, 1), KV_OK, 0); /* the abandoned request comes late: it has no effect */
	assert_int_equal(stats_of(&log).keys, 0);
	assert_reply(put(&log, session, 2, 1), KV_OK, 4);
	assert_int_equal(stats_of(&log).keys, 1);
	log_free(&log);
}

static void unknown_session_is_refused_and_not_created(void **state)
{
	struct log log = log_new();
	uint64_t session = open_session(&log);

	(void)state;
	assert_reply(put(&log, session + 1, 1, 1), KV_NO_SESSION, 0);
	assert_reply(put(&log, UINT64_MAX, 1, 1), KV_NO_SESSION, 0);
	assert_int_equal(stats_of(&log).sessions, 1);
	assert_int_equal(stats_of(&log).keys, 0);
	log_free(&log);
}

static void requests_without_a_session_are_never_deduplicated(void **state)
{
	struct log log = log_new();

	(void)state;
	assert_reply(put(&log, 0, 1, 1), KV_OK, 1);
	assert_reply(put(&log, 0, 1, 1), KV_OK, 2);
	assert_revision(&log, 2);
	log_free(&log);
}

static void sessions_do_not_touch_one_another(void **state)
{
	struct log log = log_new();
	uint64_t one = open_session(&log), other = open_session(&log);

	(void)state;
	assert_int_not_equal(one, other);
	assert_reply(put(&log, one, 1, 1), KV_OK, 3);
	assert_reply(put(&log, other, 1, 1), KV_OK, 4);
	assert_reply(put(&log, one, 1, 1), KV_OK, 3);
	assert_reply(put(&log, other, 1, 1), KV_OK, 4);
	log_free(&log);
}

static void window_is_exact_and_opens_again(void **state)
{
	struct log log = log_new();
	uint64_t session = open_session(&log), next = KV_SESSION_WINDOW + 1;
	uint64_t full;

	(void)state;
	for (uint64_t i = 1; i <= KV_SESSION_WINDOW; i++)
		assert_reply(nothing(&log, session, i, 1), KV_OK, 0);
	assert_reply(put(&log, session, next, 1), KV_WINDOW_FULL, 0);
	assert_int_equal(stats_of(&log).keys, 0);
	assert_reply(nothing(&log, session, 1, 1), KV_OK, 0);
	full = stats_of(&log).memory_bytes;
	/* The very request that was refused goes through once it acknowledges one reply. */
	assert_int_equal(put(&log, session, next, 2).status, KV_OK);
	assert_revision(&log, log.index);
	assert_reply(put(&log, session, next + 1, 2), KV_WINDOW_FULL, 0);
	/* All acknowledged: the memory comes back. */
	assert_int_equal(put(&log, session, next + 1, next + 1).status, KV_OK);
	kv_store_check(log.store);
	assert_true(stats_of(&log).memory_bytes + KV_SESSION_WINDOW * 8 / 2 < full);
	log_free(&log);
}

static void the_session_unused_the_longest_expires(void **state)
{
	struct log log = log_new();
	uint64_t first = open_session(&log), second = open_session(&log), third = open_session(&log), more;

	(void)state;
	for (unsigned i = 3; i < KV_SESSIONS_MAX; i++)
		(void)open_session(&log);
	assert_int_equal(stats_of(&log).sessions, KV_SESSIONS_MAX);
	assert_int_equal(put(&log, first, 1, 1).status, KV_OK);
	/* Being refused is use as well. */
	assert_int_equal(put(&log, third, 9, 1).status, KV_OUT_OF_ORDER);
	more = open_session(&log);
	assert_int_equal(stats_of(&log).sessions, KV_SESSIONS_MAX);
	assert_int_equal(put(&log, second, 1, 1).status, KV_NO_SESSION);
	assert_int_equal(put(&log, first, 2, 1).status, KV_OK);
	assert_int_equal(put(&log, third, 1, 1).status, KV_OK);
	assert_int_equal(put(&log, more, 1, 1).status, KV_OK);
	(void)open_session(&log); /* now the fourth is the oldest */
	assert_int_equal(put(&log, third + 1, 1, 1).status, KV_NO_SESSION);
	assert_int_equal(put(&log, third + 2, 1, 1).status, KV_OK);
	log_free(&log);
}

static void hash_covers_every_session(void **state)
{
	struct log one = log_new(), other = log_new();
	uint64_t session = open_session(&one), hash;

	(void)state;
	assert_true(kv_store_hash(one.store) != kv_store_hash(other.store));
	(void)open_session(&other);
	assert_true(kv_store_hash(one.store) == kv_store_hash(other.store));
	hash = kv_store_hash(one.store);
	(void)nothing(&one, session, 1, 1);
	assert_true(kv_store_hash(one.store) != hash);
	assert_true(kv_store_hash(one.store) != kv_store_hash(other.store));
	(void)nothing(&other, session, 1, 1);
	assert_true(kv_store_hash(one.store) == kv_store_hash(other.store));
	/* They differ in what is acknowledged. */
	(void)nothing(&one, session, 2, 1);
	(void)nothing(&other, session, 2, 2);
	assert_true(kv_store_hash(one.store) != kv_store_hash(other.store));
	log_free(&one);
	log_free(&other);
}

/* A client that loses replies and sends again, in a model that remembers every reply. ------------------------- */

#define CLIENTS 8u
#define REQUESTS_MAX 4000u

struct client {
	uint64_t session;
	uint64_t last;
	uint64_t acknowledged;
	struct kv_reply replies[REQUESTS_MAX];
};

static void random_request(struct log *log, struct client *client, unsigned *seed)
{
	uint64_t low = client->acknowledged > 5 ? client->acknowledged - 5 : 0;
	uint64_t sequence = low + (unsigned)rand_r(seed) % (client->last + 4 - low);
	uint64_t acknowledged = 0;
	struct kv_reply reply;

	if (rand_r(seed) % 2 == 0)
		sequence = client->last + 1;
	if (rand_r(seed) % 4 == 0)
		acknowledged = low + (unsigned)rand_r(seed) % (client->last + 3 - low);
	reply = put(log, client->session, sequence, acknowledged);
	if (acknowledged > client->last + 1)
		acknowledged = client->last + 1;
	if (acknowledged > client->acknowledged)
		client->acknowledged = acknowledged;
	if (sequence == client->last + 1) {
		assert_reply(reply, KV_OK, log->index);
		assert_revision(log, log->index);
		client->replies[sequence] = reply;
		client->last++;
	} else if (sequence > client->last) {
		assert_reply(reply, KV_OUT_OF_ORDER, client->last + 1);
	} else if (sequence < client->acknowledged) {
		assert_reply(reply, KV_ALREADY_ACKNOWLEDGED, 0);
	} else {
		assert_reply(reply, KV_OK, client->replies[sequence].revision);
	}
}

static void random_retries_get_what_the_model_remembers(void **state)
{
	const char *given = getenv("KV_TEST_SEED");
	unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL) ^ (unsigned)getpid();
	struct client *clients = calloc(CLIENTS, sizeof(*clients));
	struct log log = log_new();

	(void)state;
	printf("KV_TEST_SEED=%u\n", seed);
	assert_non_null(clients);
	for (unsigned i = 0; i < CLIENTS; i++) {
		clients[i].session = open_session(&log);
		clients[i].acknowledged = 1;
	}
	for (unsigned step = 0; step < 20000; step++) {
		struct client *client = &clients[(unsigned)rand_r(&seed) % CLIENTS];

		if (client->last + 1 < REQUESTS_MAX)
			random_request(&log, client, &seed);
		if (step % 500 == 0)
			kv_store_check(log.store);
	}
	free(clients);
	log_free(&log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(retried_request_takes_effect_once_and_returns_its_first_reply),
		cmocka_unit_test(replies_other_than_ok_are_repeated_too),
		cmocka_unit_test(gap_is_refused_and_the_expected_number_told),
		cmocka_unit_test(acknowledged_replies_are_gone),
		cmocka_unit_test(acknowledgement_of_the_future_counts_up_to_the_present),
		cmocka_unit_test(nothing_takes_a_sequence_number),
		cmocka_unit_test(unknown_session_is_refused_and_not_created),
		cmocka_unit_test(requests_without_a_session_are_never_deduplicated),
		cmocka_unit_test(sessions_do_not_touch_one_another),
		cmocka_unit_test(window_is_exact_and_opens_again),
		cmocka_unit_test(the_session_unused_the_longest_expires),
		cmocka_unit_test(hash_covers_every_session),
		cmocka_unit_test(random_retries_get_what_the_model_remembers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
