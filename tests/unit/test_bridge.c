/* raft-bridge as a process: the conversation, the order of answers, bounds, the end. */
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

#define KEYS "request_timeout_ms = 400\n"
#define PATIENT_KEYS "request_timeout_ms = 9000\n"

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

/* Conversation ----------------------------------------------------------------------------------------- */

static void a_conversation_goes_as_documented(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	fixture_say(f, fd, "put hello world\n"); /* the session's registration is entry 1 */
	fixture_expect(f, fd, "OK 2");
	fixture_say(f, fd, "get hello\r\n");
	fixture_expect(f, fd, "VALUE 2 world");
	fixture_say(f, fd, "cas hello 2 \"new \\\"world\\\"\\n\"\n");
	fixture_expect(f, fd, "OK 3");
	fixture_say(f, fd, "get hello\n");
	fixture_expect(f, fd, "VALUE 3 \"new \\\"world\\\"\\n\"");
	fixture_say(f, fd, "cas hello 2 other\n");
	fixture_expect(f, fd, "MISMATCH 3");
	fixture_say(f, fd, "delete hello\n");
	fixture_expect_start(f, fd, "OK ");
	fixture_say(f, fd, "delete hello\n");
	fixture_expect(f, fd, "NOT_FOUND");
	fixture_say(f, fd, "get hello\n");
	fixture_expect(f, fd, "NOT_FOUND");
	fixture_say(f, fd, "put empty \"\"\nget empty\n");
	fixture_expect_start(f, fd, "OK ");
	char *line = fixture_read_line(f, fd, NULL);
	assert_string_equal(line + strlen(line) - 3, " \"\"");
	free(line);
	fixture_say(f, fd, "quit\nput after quit\n");
	fixture_expect(f, fd, "BYE");
	fixture_expect_end(f, fd);
}

static void local_commands_are_answered_in_turn(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	fixture_say(f, fd, "put a 1\nping\nnonsense\nget a\nping\n\n\nput a\nput a 2\nquit\n");
	fixture_expect(f, fd, "OK 2");
	fixture_expect(f, fd, "PONG");
	fixture_expect_start(f, fd, "ERR unknown_command ");
	fixture_expect(f, fd, "VALUE 2 1");
	fixture_expect(f, fd, "PONG");
	fixture_expect_start(f, fd, "ERR bad_request ");
	fixture_expect(f, fd, "OK 3");
	fixture_expect(f, fd, "BYE");
	fixture_expect_end(f, fd);
}

static void status_shows_every_member(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	fixture_say(f, fd, "ping\nget x\n");
	fixture_expect(f, fd, "PONG");
	fixture_expect(f, fd, "NOT_FOUND");
	fixture_close_member(f, 2);
	f->members[1].silent = true;
	fixture_say(f, fd, "status\nstatus\nping\n");
	for (unsigned k = 0; k < 2; k++) {
		fixture_expect_start(f, fd, "member 1 leader term 1 ");
		fixture_expect(f, fd, "member 2 silent");
		fixture_expect(f, fd, "member 3 unreachable");
		fixture_expect(f, fd, "OK");
	}
	fixture_expect(f, fd, "PONG");
	f->members[1].silent = false;
	fixture_say(f, fd, "help\n");
	char *line = NULL;
	do {
		free(line);
		line = fixture_read_line(f, fd, NULL);
		assert_true(strncmp(line, "# ", 2) == 0 || strcmp(line, "OK") == 0);
	} while (strcmp(line, "OK") != 0);
	free(line);
	close(fd);
}

static void a_read_sees_the_writes_before_it_and_none_after(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	char text[128], expected[64];
	for (unsigned k = 0; k < 300; k++) {
		snprintf(text, sizeof text, "put k a%u\nput k b%u\nget k\nget k\nput k c%u\n", k, k, k);
		fixture_say(f, fd, text);
	}
	for (unsigned k = 0; k < 300; k++) {
		fixture_expect_start(f, fd, "OK ");
		fixture_expect_start(f, fd, "OK ");
		snprintf(expected, sizeof expected, "VALUE %u b%u", 3 * k + 3, k);
		fixture_expect(f, fd, expected);
		fixture_expect(f, fd, expected);
		fixture_expect_start(f, fd, "OK ");
	}
	close(fd);
}

/* Input ------------------------------------------------------------------------------------------------ */

static void everything_before_a_half_close_is_served(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	char text[32];
	for (unsigned k = 0; k < 3000; k++) {
		snprintf(text, sizeof text, "%s k%u v\n", k % 7 == 0 ? "put" : "cas", k);
		fixture_say(f, fd, k % 7 == 0 ? text : "get k0\n");
	}
	fixture_say(f, fd, "put unfinished lin");
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	for (unsigned k = 0; k < 3000; k++)
		fixture_expect_start(f, fd, k % 7 == 0 ? "OK " : "VALUE ");
	fixture_expect_start(f, fd, "ERR bad_request ");
	fixture_expect_end(f, fd);
	struct kv_value value;
	assert_false(kv_store_get(f->store, (const uint8_t *)"unfinished", 10, &value));
}

static void lines_may_arrive_byte_by_byte(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	static const char text[] = "put \"a b\" \"\\x41\\n\"\r\nget \"a b\"\n";
	for (size_t k = 0; k + 1 < sizeof text; k++) {
		fixture_send(f, fd, text + k, 1);
		fixture_pump(f, 0);
	}
	fixture_expect(f, fd, "OK 2");
	fixture_expect(f, fd, "VALUE 2 \"A\\n\"");
	close(fd);
}

static void the_largest_value_passes_and_one_byte_more_is_refused(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	size_t size = 1048576;
	char *line = malloc(4 * size + 32);
	for (unsigned escaped = 0; escaped < 2; escaped++) {
		for (unsigned extra = 0; extra < 2; extra++) {
			size_t len = (size_t)sprintf(line, escaped ? "put big \"" : "put big ");
			for (size_t k = 0; k < size + extra; k++)
				len += (size_t)sprintf(line + len, escaped ? "\\x%02x" : "v", (unsigned)(k & 0xff));
			len += (size_t)sprintf(line + len, escaped ? "\"\n" : "\n");
			fixture_send(f, fd, line, len);
			fixture_expect_start(f, fd,
					     extra ? "ERR too_big the value is longer than 1048576 bytes" : "OK ");
		}
		fixture_say(f, fd, "get big\n");
		size_t got;
		char *value = fixture_read_line(f, fd, &got);
		assert_memory_equal(value, "VALUE ", 6);
		assert_true(escaped ? got > size + 10 : got == size + 8);
		free(value);
	}
	free(line);
	close(fd);
}

static void a_line_that_is_too_long_is_skipped(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f);
	char *text = malloc(1000000);
	memset(text, 'x', 1000000);
	fixture_say(f, fd, "put a ");
	for (unsigned k = 0; k < 60; k++)
		fixture_send(f, fd, text, 1000000);
	fixture_expect_start(f, fd, "ERR too_big ");
	fixture_expect_rss(f, 40 << 20);
	fixture_say(f, fd, "x\nping\n");
	fixture_expect(f, fd, "PONG");
	free(text);
	close(fd);
}

static void random_bytes_do_no_harm(void **state)
{
	struct fixture *f = *state;
	unsigned seed = 3;
	char bytes[600];
	for (unsigned k = 0; k < 300; k++) {
		int fd = fixture_connect(f);
		size_t size = (size_t)rand_r(&seed) % sizeof bytes;
		for (size_t j = 0; j < size; j++)
			bytes[j] = (char)(rand_r(&seed) % 5 == 0 ? '\n' : rand_r(&seed) >> 5);
		(void)send(fd, bytes, size, MSG_NOSIGNAL);
		fixture_pump(f, 0);
		close(fd);
	}
	int fd = fixture_connect(f);
	fixture_say(f, fd, "put still alive\n");
	fixture_expect_start(f, fd, "OK ");
	close(fd);
}

/* Bounds ----------------------------------------------------------------------------------------------- */

/* Sends the line again and again until the socket takes no more for a while, whatever the bridge answers. Returns the
 * number of bytes; the last line may be cut. */
static size_t flood(struct fixture *f, int fd, const char *line, size_t max)
{
	char text[4096];
	size_t len = 0, total = 0, at = 0;
	while (len + strlen(line) <= sizeof text) {
		memcpy(text + len, line, strlen(line));
		len += strlen(line);
	}
	int64_t moved = fixture_now_ms();
	while (total < max && fixture_now_ms() < moved + 150) {
		ssize_t n = send(fd, text + at, len - at, MSG_NOSIGNAL);
		if (n > 0) {
			total += (size_t)n;
			at = (at + (size_t)n) % len;
			moved = fixture_now_ms();
		}
		fixture_pump(f, n > 0 ? 0 : 5);
	}
	return total;
}

static void who_does_not_read_stops_itself_and_nobody_else(void **state)
{
	struct fixture *f = *state;
	int slow = fixture_connect(f), other = fixture_connect(f);
	char *line = malloc(200000);
	size_t len = (size_t)sprintf(line, "put big ");
	memset(line + len, 'v', 100000);
	memcpy(line + len + 100000, "\n", 2);
	fixture_say(f, other, line);
	fixture_expect_start(f, other, "OK ");
	size_t before = fixture_bridge_rss(f);
	size_t sent = flood(f, slow, "get big\nget big\nget big\n", 4 << 20);
	assert_true(sent < 4 << 20);
	fixture_expect_rss(f, before + (16 << 20));
	for (unsigned k = 0; k < 20; k++) {
		fixture_say(f, other, "put small 1\nget small\n");
		fixture_expect_start(f, other, "OK ");
		fixture_expect_start(f, other, "VALUE ");
	}
	shutdown(slow, SHUT_WR);
	unsigned n = 0;
	char *got;
	while ((got = fixture_read_line(f, slow, NULL)) != NULL) {
		if (strncmp(got, "VALUE ", 6) == 0)
			n++;
		else
			assert_memory_equal(got, "ERR bad_request", 15); /* the line that was cut */
		free(got);
		if (n == 300)
			break; /* all would take long */
	}
	assert_true(n > 100);
	fixture_expect_rss(f, before + (16 << 20));
	free(line);
	close(slow);
	close(other);
}

static void a_million_unread_answers_take_no_memory(void **state)
{
	struct fixture *f = *state;
	static const char *const texts[] = {"ping\n", "put a b\n", "nonsense\n", "get a\n"};
	size_t before = fixture_bridge_rss(f);
	for (unsigned k = 0; k < 4; k++) {
		int fd = fixture_connect(f);
		assert_true(flood(f, fd, texts[k], 32 << 20) < 32 << 20);
		close(fd);
	}
	fixture_expect_rss(f, before + (16 << 20));
	int fd = fixture_connect(f);
	fixture_say(f, fd, "ping\n");
	fixture_expect(f, fd, "PONG");
	close(fd);
}

static void an_idle_connection_costs_little(void **state)
{
	struct fixture *f = *state;
	enum { CONNECTIONS = 900 };
	int fds[CONNECTIONS];
	for (unsigned k = 0; k < 100; k++) {
		fds[k] = fixture_connect(f);
		fixture_say(f, fds[k], "put a b\nget a\n");
		fixture_expect_start(f, fds[k], "OK ");
		fixture_expect_start(f, fds[k], "VALUE ");
	}
	size_t before = fixture_bridge_rss(f);
	for (unsigned k = 100; k < CONNECTIONS; k++) {
		fds[k] = fixture_connect(f);
		fixture_say(f, fds[k], "put a b\nget a\n");
		fixture_expect_start(f, fds[k], "OK ");
		fixture_expect_start(f, fds[k], "VALUE ");
	}
	fixture_expect_rss(f, before + (size_t)(CONNECTIONS - 100) * 1500);
	for (unsigned k = 0; k < CONNECTIONS; k++)
		close(fds[k]);
}

static int start_with_few_connections(void **state)
{
	static struct fixture fixture;
	fixture_start(&fixture, KEYS "connections_max = 2\n");
	*state = &fixture;
	return 0;
}

static void one_connection_too_many_is_told_so(void **state)
{
	struct fixture *f = *state;
	int a = fixture_connect(f), b = fixture_connect(f), c = fixture_connect(f);
	fixture_expect_start(f, c, "ERR busy ");
	fixture_expect_end(f, c);
	close(a);
	int64_t deadline = fixture_now_ms() + WAIT_MS;
	for (;;) {
		int d = fixture_connect(f);
		fixture_say(f, b, "ping\n");
		fixture_expect(f, b, "PONG");
		(void)send(d, "ping\n", 5, MSG_NOSIGNAL);
		char *line = fixture_read_line(f, d, NULL);
		bool served = line != NULL && strcmp(line, "PONG") == 0;
		free(line);
		close(d);
		if (served)
			break;
		assert_true(fixture_now_ms() < deadline);
	}
	close(b);
}

/* Stopping --------------------------------------------------------------------------------------------- */

static void on_sigterm_what_is_in_flight_is_answered(void **state)
{
	struct fixture *f = *state;
	int fd = fixture_connect(f), idle = fixture_connect(f);
	fixture_say(f, idle, "ping\n");
	fixture_expect(f, idle, "PONG");
	f->members[0].silent = true;
	uint64_t sent = 0;
	for (unsigned k = 0; k < 50; k++) {
		fixture_say(f, fd, "put a b\n");
		sent++;
	}
	/* The bridge has read them when it has asked for a session. */
	f->members[0].silent = false;
	int64_t deadline = fixture_now_ms() + WAIT_MS;
	while (f->members[0].n_writes == 0 && fixture_now_ms() < deadline)
		fixture_pump(f, 5);
	kill(f->bridge, SIGTERM);
	for (unsigned k = 0; k < sent; k++)
		fixture_expect_start(f, fd, "OK ");
	fixture_expect_end(f, fd);
	fixture_expect_end(f, idle);
	assert_int_equal(fixture_wait_bridge(f), 0);
	assert_int_equal(access(f->socket_path, F_OK), -1);
}

int main(void)
{
#define PATIENT_TEST(name) cmocka_unit_test_setup_teardown(name, start_patient, stop)
	const struct CMUnitTest tests[] = {
		PATIENT_TEST(a_conversation_goes_as_documented),
		PATIENT_TEST(local_commands_are_answered_in_turn),
		PATIENT_TEST(status_shows_every_member),
		PATIENT_TEST(a_read_sees_the_writes_before_it_and_none_after),
		PATIENT_TEST(everything_before_a_half_close_is_served),
		PATIENT_TEST(lines_may_arrive_byte_by_byte),
		PATIENT_TEST(the_largest_value_passes_and_one_byte_more_is_refused),
		PATIENT_TEST(a_line_that_is_too_long_is_skipped),
		PATIENT_TEST(random_bytes_do_no_harm),
		PATIENT_TEST(who_does_not_read_stops_itself_and_nobody_else),
		PATIENT_TEST(a_million_unread_answers_take_no_memory),
		PATIENT_TEST(an_idle_connection_costs_little),
		cmocka_unit_test_setup_teardown(one_connection_too_many_is_told_so, start_with_few_connections, stop),
		PATIENT_TEST(on_sigterm_what_is_in_flight_is_answered),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
