/* raft-bridge as a process: what its clients see while members lead, refuse, fall silent and die. */
#include "bridge_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define KEYS "request_timeout_ms = 300\n"
#define PATIENT_KEYS "request_timeout_ms = 9000\n"

static int start(void **state)
{
	static struct fixture fixture;
	fixture_start(&fixture, KEYS);
	*state = &fixture;
	return 0;
}

static int start_patient(void **state)
{
	static struct fixture fixture;
	fixture_start(&fixture, PATIENT_KEYS);
	*state = &fixture;
	return 0;
}

static int stop(void **state)
{
	fixture_stop(*state);
	return 0;
}

/* Leaders ---------------------------------------------------------------------------------------------- */

static void without_a_leader_requests_fail_at_their_deadline_and_stale_reads_work(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	fixture_say(f, fd, "put a 1\n");
	fixture_expect(f, fd, "OK 2");
	fixture_depose_all(f);
	int64_t begin = fixture_now_ms();
	fixture_say(f, fd, "put a 2\nput a 3\n");
	fixture_expect_start(f, fd, "ERR no_quorum ");
	assert_in_range(fixture_now_ms() - begin, 290, 900);
	fixture_expect_start(f, fd, "ERR no_quorum ");
	fixture_say(f, fd, "get a\n");
	fixture_expect_start(f, fd, "ERR no_quorum ");
	fixture_say(f, fd, "get -s a\n");
	fixture_expect(f, fd, "VALUE 2 1");
	uint64_t probes = f->members[1].n_probes;
	fixture_say(f, fd, "get a\n");
	fixture_expect_start(f, fd, "ERR no_quorum ");
	assert_in_range(f->members[1].n_probes - probes, 2, 15); /* asks around, but does not spin */
	fixture_elect(f, 1);
	fixture_say(f, fd, "put a 4\nget a\n");
	fixture_expect(f, fd, "OK 3");
	fixture_expect(f, fd, "VALUE 3 4");
	close(fd);
}

static void requests_are_held_while_a_leader_is_elected(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	fixture_say(f, fd, "put a 1\n");
	fixture_expect(f, fd, "OK 2");
	fixture_depose_all(f);
	fixture_say(f, fd, "put a 2\nget a\n");
	int64_t until = fixture_now_ms() + 150;
	while (fixture_now_ms() < until)
		fixture_pump(f, 5);
	fixture_elect(f, 2);
	fixture_expect(f, fd, "OK 3");
	fixture_expect(f, fd, "VALUE 3 2");
	close(fd);
}

static void a_write_at_a_silent_leader_is_unknown_and_its_fate_is_found_out(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	fixture_say(f, fd, "put a 1\n");
	fixture_expect(f, fd, "OK 2");
	f->members[0].silent = true;
	fixture_say(f, fd, "put a 2\n");
	fixture_expect_start(f, fd, "ERR unknown ");
	fixture_say(f, fd, "put a 3\n"); /* held: nothing more is sent to one who is silent */
	fixture_expect_start(f, fd, "ERR no_quorum ");
	f->members[0].silent = false;
	fixture_say(f, fd, "get a\n");
	fixture_expect(f, fd, "VALUE 3 2");
	fixture_say(f, fd, "put a 4\n");
	fixture_expect(f, fd, "OK 4"); /* applied once, and no number was skipped */
	close(fd);
}

static void an_unknown_write_that_was_refused_after_all_is_not_applied_later(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	fixture_say(f, fd, "put a 1\n");
	fixture_expect(f, fd, "OK 2");
	f->members[0].silent = true;
	fixture_say(f, fd, "put a 2\n");
	fixture_expect_start(f, fd, "ERR unknown ");
	fixture_depose_all(f);
	uint64_t writes = f->members[0].n_writes;
	f->members[0].silent = false;
	int64_t begin = fixture_now_ms();
	while (f->members[0].n_writes == writes && fixture_now_ms() < begin + WAIT_MS)
		fixture_pump(f, 5);
	fixture_elect(f, 1);
	fixture_say(f, fd, "put b 3\nget a\nget b\n");
	fixture_expect(f, fd, "OK 4"); /* after the entry that does nothing in the place of the other */
	fixture_expect(f, fd, "VALUE 2 1");
	fixture_expect(f, fd, "VALUE 4 3");
	close(fd);
}

static void a_silent_leader_is_left_for_one_of_a_higher_term(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	fixture_say(f, fd, "put a 1\n");
	fixture_expect(f, fd, "OK 2");
	f->members[0].silent = true;
	fixture_elect(f, 1);
	f->members[0].leads = true; /* it does not know */
	fixture_say(f, fd, "put a 2\nget a\n");
	fixture_expect(f, fd, "OK 3");
	fixture_expect(f, fd, "VALUE 3 2");
	f->members[0].silent = false;
	f->members[0].leads = false;
	fixture_say(f, fd, "put a 3\n");
	fixture_expect(f, fd, "OK 4");
	close(fd);
}

/* It answered something after the write was sent, so that nothing looks unanswered but the write itself. */
static void a_leader_that_falls_silent_after_an_answer_is_found_out(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f), other = fixture_connect(f);
	fixture_say(f, fd, "put a 1\n");
	fixture_expect(f, fd, "OK 2");
	f->members[0].withholds_writes = true;
	uint64_t writes = f->members[0].n_writes;
	fixture_say(f, fd, "put a 2\n");
	int64_t begin = fixture_now_ms();
	while (f->members[0].n_writes == writes && fixture_now_ms() < begin + WAIT_MS)
		fixture_pump(f, 5);
	fixture_say(f, other, "get a\n");
	fixture_expect(f, other, "VALUE 2 1");
	begin = fixture_now_ms();
	f->members[0].silent = true;
	fixture_elect(f, 1);
	fixture_expect(f, fd, "OK 3");
	assert_true(fixture_now_ms() < begin + 700); /* sooner than all is sent again for want of any answer */
	f->members[0].silent = false;
	close(fd);
	close(other);
}

static void stale_reads_leave_a_silent_member(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	fixture_say(f, fd, "put a 1\n");
	fixture_expect(f, fd, "OK 2");
	f->members[0].silent = true;
	fixture_say(f, fd, "get -s a\n");
	fixture_expect(f, fd, "VALUE 2 1");
	f->members[0].silent = false;
	close(fd);
}

static void a_write_whose_leader_lost_its_leadership_is_applied_once(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	fixture_say(f, fd, "put a 1\n");
	fixture_expect(f, fd, "OK 2");
	for (unsigned drops = 0; drops < 2; drops++) {
		unsigned old = drops, new = drops + 1;
		f->members[old].loses_leadership = true;
		f->members[old].drops_appended = drops != 0;
		uint64_t writes = f->members[old].n_writes;
		fixture_say(f, fd, "cas a 0 x\nput a 2\nput b 3\ncas b 0 y\n");
		int64_t deadline = fixture_now_ms() + WAIT_MS;
		while (f->members[old].n_writes < writes + 4 && fixture_now_ms() < deadline)
			fixture_pump(f, 5);
		fixture_elect(f, new);
		uint64_t first = drops == 0 ? 2 : 4;
		char expected[32];
		snprintf(expected, sizeof expected, "MISMATCH %u", drops == 0 ? 2 : 4);
		fixture_expect(f, fd, expected);
		char *line = fixture_read_line(f, fd, NULL);
		uint64_t revision = strtoull(line + 3, NULL, 10);
		assert_true(revision > first);
		free(line);
		snprintf(expected, sizeof expected, "OK %llu", (unsigned long long)revision + 1);
		fixture_expect(f, fd, expected);
		snprintf(expected, sizeof expected, "MISMATCH %llu", (unsigned long long)revision + 1);
		fixture_expect(f, fd, expected);
	}
	close(fd);
}

static void refused_writes_are_repeated_in_order(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	char text[64];
	uint64_t last = 0;
	f->members[0].busy_every = 37;
	for (unsigned k = 0; k < 200; k++) {
		snprintf(text, sizeof text, "put k %u\n", k);
		fixture_say(f, fd, text);
	}
	for (unsigned k = 0; k < 200; k++) {
		char *line = fixture_read_line(f, fd, NULL);
		assert_memory_equal(line, "OK ", 3);
		uint64_t revision = strtoull(line + 3, NULL, 10);
		assert_true(revision > last);
		last = revision;
		free(line);
	}
	fixture_say(f, fd, "get k\n");
	char *line = fixture_read_line(f, fd, NULL);
	assert_string_equal(line + strlen(line) - 4, " 199");
	free(line);
	close(fd);
}

static void a_leader_that_is_always_busy_is_reported_as_busy(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	fixture_say(f, fd, "put a 1\n");
	fixture_expect(f, fd, "OK 2");
	f->members[0].busy_every = 1;
	f->members[0].refuse_reads = KV_ANSWER_NOT_READY;
	uint64_t writes = f->members[0].n_writes;
	fixture_say(f, fd, "put a 2\n");
	fixture_expect_start(f, fd, "ERR busy ");
	assert_in_range(f->members[0].n_writes - writes, 4, 30);
	fixture_say(f, fd, "get a\n");
	fixture_expect_start(f, fd, "ERR no_quorum ");
	f->members[0].busy_every = 0;
	f->members[0].refuse_reads = 0;
	fixture_say(f, fd, "put a 3\nget a\n");
	fixture_expect(f, fd, "OK 3");
	fixture_expect(f, fd, "VALUE 3 3");
	close(fd);
}

static void lost_answers_are_asked_for_again(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	fixture_say(f, fd, "put a 1\n");
	fixture_expect(f, fd, "OK 2");
	f->members[0].loses_replies = true;
	uint64_t writes = f->members[0].n_writes;
	fixture_say(f, fd, "put a 2\n");
	int64_t deadline = fixture_now_ms() + WAIT_MS;
	while (f->members[0].n_writes == writes && fixture_now_ms() < deadline)
		fixture_pump(f, 5);
	f->members[0].loses_replies = false;
	fixture_expect(f, fd, "OK 3");
	fixture_say(f, fd, "get a\n");
	fixture_expect(f, fd, "VALUE 3 2");
	close(fd);
}

static void a_leader_that_dies_is_replaced_without_an_error(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	char text[64];
	unsigned answered = 0;
	for (unsigned k = 0; k < 2000; k++) {
		snprintf(text, sizeof text, "put k%u %u\n", k, k);
		fixture_say(f, fd, text);
		if (k % 500 != 250)
			continue;
		unsigned leader = 0;
		while (!f->members[leader].leads)
			leader++;
		fixture_close_member(f, leader);
		fixture_elect(f, (leader + 1) % FAKE_MEMBERS);
		fixture_open_member(f, leader);
	}
	for (; answered < 2000; answered++)
		fixture_expect_start(f, fd, "OK ");
	for (unsigned k = 0; k < 2000; k += 99) {
		snprintf(text, sizeof text, "get k%u\n", k);
		fixture_say(f, fd, text);
		fixture_expect_start(f, fd, "VALUE ");
	}
	close(fd);
}

static void an_expired_session_is_replaced(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	fixture_say(f, fd, "put a 1\n");
	fixture_expect(f, fd, "OK 2");
	for (unsigned k = 0; k <= KV_SESSIONS_MAX; k++) {
		struct kv_command command = {.operation = KV_REGISTER, .expected = 1000 + k};
		uint8_t buf[KV_COMMAND_HEADER_SIZE];
		kv_command_encode(&command, buf);
		(void)kv_store_apply(f->store, ++f->index, 1, buf, sizeof buf);
	}
	for (unsigned k = 0; k < 100; k++)
		fixture_say(f, fd, "put a 2\n");
	for (unsigned k = 0; k < 100; k++)
		fixture_expect_start(f, fd, "OK ");
	close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
#define PATIENT_TEST(name) cmocka_unit_test_setup_teardown(name, start_patient, stop)
	const struct CMUnitTest tests[] = {
		TEST(without_a_leader_requests_fail_at_their_deadline_and_stale_reads_work),
		PATIENT_TEST(requests_are_held_while_a_leader_is_elected),
		TEST(a_write_at_a_silent_leader_is_unknown_and_its_fate_is_found_out),
		TEST(an_unknown_write_that_was_refused_after_all_is_not_applied_later),
		PATIENT_TEST(a_silent_leader_is_left_for_one_of_a_higher_term),
		PATIENT_TEST(a_leader_that_falls_silent_after_an_answer_is_found_out),
		PATIENT_TEST(stale_reads_leave_a_silent_member),
		PATIENT_TEST(a_write_whose_leader_lost_its_leadership_is_applied_once),
		PATIENT_TEST(refused_writes_are_repeated_in_order),
		TEST(a_leader_that_is_always_busy_is_reported_as_busy),
		PATIENT_TEST(lost_answers_are_asked_for_again),
		PATIENT_TEST(a_leader_that_dies_is_replaced_without_an_error),
		PATIENT_TEST(an_expired_session_is_replaced),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
