/*
 * The HTTP endpoint against a client of bytes: what it answers, and that no client can keep, crash or flood it. One loop serves
 * both sides, so that nothing here depends on time but the limit on a connection's life.
 */
#include "daemon/metrics/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	struct event_base *base;
	struct metrics_endpoint *endpoint;
	char path[64];
	unsigned renderings;
	unsigned lines; /* of the next rendering */
	bool fine;
	bool asked_ready;
	char reply[METRICS_TEXT_MAX + 4096];
	size_t reply_len;
};

static const struct metrics_family family = {"raftkv_things", METRICS_GAUGE, "How many."};

static void render(void *arg, struct metrics_text *text)
{
	struct fixture *fixture = arg;

	fixture->renderings++;
	metrics_family(text, &family);
	for (unsigned k = 0; k < fixture->lines; k++)
		metrics_value(text, METRICS_NO_LABELS, k);
}

static bool check(void *arg, bool ready, struct metrics_text *text)
{
	struct fixture *fixture = arg;

	fixture->asked_ready = ready;
	metrics_line(text, "[%c]leader %s", fixture->fine ? '+' : '-', fixture->fine ? "ok" : "none known");
	return fixture->fine;
}

static int open_endpoint(struct fixture *fixture, char *message)
{
	struct metrics_endpoint_options options = {.base = fixture->base,
						   .path = fixture->path,
						   .mode = 0660,
						   .host = "",
						   .render = render,
						   .check = check,
						   .arg = fixture};
	return metrics_endpoint_open(&options, &fixture->endpoint, message);
}

static int set_up(void **state)
{
	char message[METRICS_MESSAGE_MAX];
	struct fixture *fixture = calloc(1, sizeof *fixture);

	assert_non_null(fixture);
	(void)signal(SIGPIPE, SIG_IGN);
	strcpy(fixture->path, "/tmp/raft-test-http-XXXXXX");
	assert_non_null(mkdtemp(fixture->path));
	strcat(fixture->path, "/m.sock");
	fixture->base = event_base_new();
	fixture->lines = 1;
	fixture->fine = true;
	assert_int_equal(open_endpoint(fixture, message), 0);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	struct stat st;

	metrics_endpoint_free(fixture->endpoint);
	event_base_free(fixture->base);
	assert_int_equal(stat(fixture->path, &st), -1);
	*strrchr(fixture->path, '/') = '\0';
	assert_int_equal(rmdir(fixture->path), 0);
	free(fixture);
	return 0;
}

static int dial(const struct fixture *fixture)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, fixture->path);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	return fd;
}

/* Reads what there is. True: the server has closed. */
static bool take(struct fixture *fixture, int fd)
{
	for (;;) {
		size_t room = sizeof fixture->reply - 1 - fixture->reply_len;
		ssize_t n = read(fd, fixture->reply + fixture->reply_len, room);
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n <= 0)
			return true;
		fixture->reply_len += (size_t)n;
		fixture->reply[fixture->reply_len] = '\0';
	}
}

/* Runs the loop until the server has closed the connection. */
static void finish(struct fixture *fixture, int fd)
{
	fixture->reply_len = 0;
	fixture->reply[0] = '\0';
	while (!take(fixture, fd))
		assert_true(event_base_loop(fixture->base, EVLOOP_ONCE) >= 0);
	close(fd);
}

static void say(struct fixture *fixture, int fd, const void *bytes, size_t len)
{
	for (size_t sent = 0; sent < len;) {
		ssize_t n = write(fd, (const char *)bytes + sent, len - sent);
		if (n > 0)
			sent += (size_t)n;
		else if (errno == EAGAIN)
			(void)event_base_loop(fixture->base, EVLOOP_NONBLOCK);
		else
			return; /* closed: it has heard enough */
	}
}

static const char *ask(struct fixture *fixture, const char *request)
{
	int fd = dial(fixture);

	say(fixture, fd, request, strlen(request));
	finish(fixture, fd);
	return fixture->reply;
}

static void expect(struct fixture *fixture, const char *request, const char *status, const char *words)
{
	const char *reply = ask(fixture, request);

	if (strncmp(reply, status, strlen(status)) != 0 || strstr(reply, words) == NULL)
		fail_msg("'%.60s' is answered with '%.300s'", request, reply);
}

static unsigned connections(const struct fixture *fixture)
{
	struct metrics_endpoint_stats stats;

	metrics_endpoint_get_stats(fixture->endpoint, &stats);
	return stats.connections;
}

static void test_the_three_paths_answer(void **state)
{
	struct fixture *fixture = *state;
	struct stat st;

	assert_int_equal(stat(fixture->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	expect(fixture, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 ",
	       "\r\n\r\n# HELP raftkv_things How many.\n");
	assert_non_null(strstr(fixture->reply, "Content-Type: text/plain; version=0.0.4"));
	assert_non_null(strstr(fixture->reply, "Connection: close\r\n"));
	expect(fixture, "GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.0 200 ", "[+]leader ok\nok\n");
	assert_false(fixture->asked_ready);
	expect(fixture, "GET /readyz?verbose=1 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 ", "[+]leader ok\nok\n");
	assert_true(fixture->asked_ready);
	fixture->fine = false;
	expect(fixture, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 503 ", "[-]leader none known\nfailed\n");
	expect(fixture, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 ", "/readyz");
	expect(fixture, "GET /metrics/ HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 ", "");
	assert_int_equal(connections(fixture), 0);
}

static void test_only_get_and_only_once_a_connection(void **state)
{
	struct fixture *fixture = *state;
	static const char *const methods[] = {"POST",  "PUT",	"DELETE",  "HEAD", "OPTIONS",
					      "TRACE", "PATCH", "CONNECT", "BREW"};

	for (size_t k = 0; k < sizeof methods / sizeof methods[0]; k++) {
		char request[128];
		(void)snprintf(request, sizeof request, "%s /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
			       methods[k]);
		const char *reply = ask(fixture, request);
		assert_null(strstr(reply, "raftkv"));
		assert_null(strstr(reply, " 200 "));
	}
	assert_int_equal(fixture->renderings, 0);
	ask(fixture, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
		     "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_int_equal(fixture->renderings, 0);
	while (connections(fixture) > 0) /* evhttp does not tell when it has refused one itself */
		(void)event_base_loop(fixture->base, EVLOOP_ONCE);
}

static void test_renderings_are_shared_and_bounded(void **state)
{
	struct fixture *fixture = *state;
	static const char request[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
	int fds[METRICS_CONNECTIONS_MAX];

	for (unsigned k = 0; k < METRICS_CONNECTIONS_MAX; k++) {
		fds[k] = dial(fixture);
		say(fixture, fds[k], request, strlen(request));
	}
	for (unsigned k = 0; k < METRICS_CONNECTIONS_MAX; k++) {
		finish(fixture, fds[k]);
		assert_non_null(strstr(fixture->reply, "raftkv_things 0\n"));
	}
	/* Less than METRICS_CACHE_MS for eight of them, unless the machine stood still. */
	assert_in_range(fixture->renderings, 1, METRICS_CONNECTIONS_MAX);
	while (event_base_get_num_events(fixture->base, EVENT_BASE_COUNT_ADDED) > 1)
		(void)event_base_loop(fixture->base, EVLOOP_ONCE); /* until the cache is forgotten */
	fixture->lines = 1000000;
	expect(fixture, request, "HTTP/1.1 500 ", "do not fit");
	fixture->lines = 1;
	expect(fixture, request, "HTTP/1.1 200 ", "raftkv_things 0\n");
}

static void test_silent_clients_are_cut_and_others_served_after_them(void **state)
{
	struct fixture *fixture = *state;
	struct metrics_endpoint_stats stats;
	int silent[METRICS_CONNECTIONS_MAX];

	for (unsigned k = 0; k < METRICS_CONNECTIONS_MAX; k++) {
		silent[k] = dial(fixture);
		say(fixture, silent[k], "GET /me", k % 2 == 0 ? 0 : 7);
	}
	while (connections(fixture) < METRICS_CONNECTIONS_MAX)
		(void)event_base_loop(fixture->base, EVLOOP_ONCE);
	/* Waits in the backlog until their time is over. */
	expect(fixture, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 ", "ok");
	for (unsigned k = 0; k < METRICS_CONNECTIONS_MAX; k++)
		finish(fixture, silent[k]);
	metrics_endpoint_get_stats(fixture->endpoint, &stats);
	assert_int_equal(stats.connections, 0);
	assert_int_equal(stats.cut, METRICS_CONNECTIONS_MAX);
}

static void test_a_client_that_does_not_read_is_cut(void **state)
{
	struct fixture *fixture = *state;
	static const char request[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
	struct metrics_endpoint_stats stats = {0};
	int fd = dial(fixture);
	int small = 1;

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	fixture->lines = 10000;
	say(fixture, fd, request, strlen(request));
	while (fixture->renderings == 0 || connections(fixture) > 0)
		(void)event_base_loop(fixture->base, EVLOOP_ONCE);
	metrics_endpoint_get_stats(fixture->endpoint, &stats);
	assert_in_range(stats.cut, 0, 1); /* none when the kernel's buffer took it all */
	close(fd);
}

static void test_hostile_bytes(void **state)
{
	struct fixture *fixture = *state;
	static const char two_lengths[] = "POST /metrics HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"
					  "helloGET /metrics HTTP/1.1\r\n\r\n";
	static const char *const requests[] = {
		"\r\n\r\n",
		"\n\n\n\n",
		"GET\r\n\r\n",
		"GET \r\n\r\n",
		"GET /metrics\r\n\r\n",
		" / HTTP/1.1\r\n\r\n",
		"GET /metrics HTTP/9.9\r\n\r\n",
		"GET /metrics HTTP/1.1\r\nHost\r\n\r\n",
		"GET /metrics HTTP/1.1\r\n: x\r\n\r\n",
		"GET http://[::1/metrics HTTP/1.1\r\n\r\n",
		"GET //////%00%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /%6d%65trics HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
		"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
		"POST /metrics HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\nx",
		"POST /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\nx",
		two_lengths,
		"POST /metrics HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9999\r\n\r\n",
		"GET /healthz HTTP/1.1\r\nHost: x\r\n folded\r\n\tfolded: y\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	};
	char *long_line = malloc(1 << 20);

	assert_non_null(long_line);
	for (size_t k = 0; k < sizeof requests / sizeof requests[0]; k++) {
		int fd = dial(fixture);
		say(fixture, fd, requests[k], strlen(requests[k]));
		shutdown(fd, SHUT_WR);
		finish(fixture, fd);
	}
	memset(long_line, 'A', 1 << 20);
	memcpy(long_line, "GET /", 5);
	int fd = dial(fixture);
	say(fixture, fd, long_line, 1 << 20);
	finish(fixture, fd);
	memcpy(long_line, "GET /metrics HTTP/1.1\r\nX: ", 26);
	fd = dial(fixture);
	say(fixture, fd, long_line, 1 << 20);
	finish(fixture, fd);
	assert_null(strstr(fixture->reply, "raftkv"));
	srand(7);
	for (unsigned round = 0; round < 100; round++) {
		size_t len = (size_t)rand() % 600 + 1;
		for (size_t k = 0; k < len; k++)
			long_line[k] = (char)(rand() % 4 == 0 ? "\r\n: /"[rand() % 5] : rand());
		if (round % 2 == 0)
			memcpy(long_line, "GET /metrics HTTP/1.1\r\n", len < 23 ? len : 23);
		fd = dial(fixture);
		say(fixture, fd, long_line, len);
		shutdown(fd, SHUT_WR);
		finish(fixture, fd);
	}
	free(long_line);
	expect(fixture, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 ", "ok");
}

static void test_a_socket_left_behind_is_replaced_and_one_in_use_is_not(void **state)
{
	struct fixture *fixture = *state;
	struct fixture second = *fixture;
	char message[METRICS_MESSAGE_MAX] = "";

	assert_int_equal(open_endpoint(&second, message), -EADDRINUSE);
	assert_non_null(strstr(message, fixture->path));
	expect(fixture, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 ", "ok");
	fixture->endpoint = metrics_endpoint_free(fixture->endpoint);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strcpy(address.sun_path, fixture->path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	close(fd);
	assert_int_equal(open_endpoint(fixture, message), 0);
	expect(fixture, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 ", "ok");
}

static void test_closing_in_the_middle(void **state)
{
	struct fixture *fixture = *state;
	int idle = dial(fixture);
	int asking = dial(fixture);

	say(fixture, asking, "GET /metrics HTTP/1.1\r\n", 23);
	while (connections(fixture) < 2)
		(void)event_base_loop(fixture->base, EVLOOP_ONCE);
	fixture->endpoint = metrics_endpoint_free(fixture->endpoint);
	close(idle);
	close(asking);
	(void)event_base_loop(fixture->base, EVLOOP_NONBLOCK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_three_paths_answer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_only_get_and_only_once_a_connection, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_renderings_are_shared_and_bounded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_silent_clients_are_cut_and_others_served_after_them, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_a_client_that_does_not_read_is_cut, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_hostile_bytes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_socket_left_behind_is_replaced_and_one_in_use_is_not, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_closing_in_the_middle, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
