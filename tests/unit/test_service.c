/*
 * What systemd sees of a process: log lines on stderr and in the journal, notifications, passed sockets.
 *
 * The journal is this file's own sd_journal_sendv, which the linker takes before libsystemd's; notifications arrive at a datagram
 * socket of the test; stderr is a pipe.
 */
#include "daemon/service/limiter.h"
#include "daemon/service/service.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A journal that remembers its last record, one field a line ------------------------------------------------ */

static char journal[8192];
static int journal_records;
static int journal_result;

int sd_journal_sendv(const struct iovec *iov, int n);
__attribute__((visibility("default"))) int sd_journal_sendv(const struct iovec *iov, int n)
{
	size_t len = 0;

	for (int i = 0; i < n; i++) {
		assert_true(len + iov[i].iov_len + 2 < sizeof(journal));
		memcpy(journal + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
		journal[len++] = '\n';
	}
	journal[len] = '\0';
	journal_records++;
	return journal_result;
}

/* Stderr in a pipe ------------------------------------------------------------------------------------------ */

struct fixture {
	int real_stderr;
	int pipe[2];
	int notify_fd;
	char notify_path[64];
	char text[16384];
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	assert_non_null(fixture);
	fixture->real_stderr = dup(STDERR_FILENO);
	assert_int_equal(pipe2(fixture->pipe, O_NONBLOCK), 0);
	assert_true(dup2(fixture->pipe[1], STDERR_FILENO) >= 0);
	snprintf(fixture->notify_path, sizeof(fixture->notify_path), "/tmp/raft-test-notify-%d", (int)getpid());
	unlink(fixture->notify_path);
	strcpy(address.sun_path, fixture->notify_path);
	fixture->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fixture->notify_fd, (struct sockaddr *)&address, sizeof(address)), 0);
	setenv("NOTIFY_SOCKET", fixture->notify_path, 1);
	unsetenv("JOURNAL_STREAM");
	unsetenv("INVOCATION_ID");
	journal_records = 0;
	journal_result = 0;
	journal[0] = '\0';
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	dup2(fixture->real_stderr, STDERR_FILENO);
	close(fixture->real_stderr);
	close(fixture->pipe[0]);
	close(fixture->pipe[1]);
	close(fixture->notify_fd);
	unlink(fixture->notify_path);
	free(fixture);
	return 0;
}

/* What was written to stderr since the last call. */
static const char *take_stderr(struct fixture *fixture)
{
	ssize_t n = read(fixture->pipe[0], fixture->text, sizeof(fixture->text) - 1);

	fixture->text[n > 0 ? n : 0] = '\0';
	return fixture->text;
}

/* The next notification, empty when there is none. */
static const char *take_notification(struct fixture *fixture)
{
	ssize_t n = recv(fixture->notify_fd, fixture->text, sizeof(fixture->text) - 1, 0);

	fixture->text[n > 0 ? n : 0] = '\0';
	return fixture->text;
}

static unsigned count_lines(const char *text)
{
	unsigned n = 0;

	for (; *text != '\0'; text++)
		n += *text == '\n';
	return n;
}

static void pretend_stderr_is_the_journal(const struct fixture *fixture)
{
	struct stat st;
	char stream[64];

	(void)fixture;
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
}

/* Log lines ------------------------------------------------------------------------------------------------- */

/* HH:MM:SS.mmm and a blank; returns what follows. */
static const char *skip_time(const char *line)
{
	static const char pattern[] = "00:00:00.000 ";

	for (size_t i = 0; pattern[i] != '\0'; i++) {
		if (pattern[i] == '0' ? line[i] < '0' || line[i] > '9' : line[i] != pattern[i])
			fail_msg("no time in front of '%s'", line);
	}
	return line + sizeof(pattern) - 1;
}

static void test_a_line_on_stderr_is_readable(void **state)
{
	struct fixture *fixture = *state;

	service_init("raftd", 3, 6);
	service_log(6, "leader-elected", "leads in term %d", 7);
	assert_string_equal(skip_time(take_stderr(fixture)), "raftd@3 leads in term 7\n");
	service_init("raft-bridge", 0, 6);
	service_log(4, NULL, "hello\n");
	assert_string_equal(skip_time(take_stderr(fixture)), "raft-bridge hello\n");
	assert_int_equal(journal_records, 0);
}

static void test_levels_above_the_chosen_one_are_silent(void **state)
{
	struct fixture *fixture = *state;

	service_init("raftd", 3, 5);
	service_log(6, NULL, "info");
	assert_string_equal(take_stderr(fixture), "");
	service_log(5, NULL, "notice");
	assert_int_equal(count_lines(take_stderr(fixture)), 1);
	service_set_level(7);
	service_log(7, NULL, "debug");
	assert_int_equal(count_lines(take_stderr(fixture)), 1);
}

static void test_under_systemd_without_the_journal_lines_carry_their_level(void **state)
{
	struct fixture *fixture = *state;

	setenv("INVOCATION_ID", "0123456789abcdef0123456789abcdef", 1);
	service_init("raftd", 3, 6);
	service_log(3, NULL, "one\ntwo");
	const char *text = take_stderr(fixture);
	assert_int_equal(strncmp(text, "<3>", 3), 0);
	text = skip_time(text + 3);
	assert_int_equal(strncmp(text, "raftd@3 one\n<3>", 15), 0);
	assert_string_equal(skip_time(text + 15), "raftd@3 two\n");
	unsetenv("INVOCATION_ID");
	/* Somebody redirected stderr of a unit: JOURNAL_STREAM names another file. */
	setenv("JOURNAL_STREAM", "1:1", 1);
	service_init("raftd", 3, 6);
	service_log(3, NULL, "x");
	assert_int_equal(strncmp(take_stderr(fixture), "<3>", 3), 0);
	assert_int_equal(journal_records, 0);
}

static void test_the_journal_gets_fields(void **state)
{
	struct fixture *fixture = *state;
	struct service_fields fields = {
		.term = 12, .role = "leader", .leader = 3, .index = 0, .peer = 18446744073709551615u};

	pretend_stderr_is_the_journal(fixture);
	service_init("raftd", 3, 6);
	service_log_fields(5, "leader", &fields, "leads in term %d", 12);
	assert_string_equal(journal, "MESSAGE=leads in term 12\nPRIORITY=5\nSYSLOG_IDENTIFIER=raftd@3\nRAFT_NODE=3\n"
				     "RAFT_EVENT=leader\nMESSAGE_ID=24f9f3bab9144dd09e32a4d60cc0a1cd\nRAFT_TERM="
				     "12\nRAFT_ROLE=leader\nRAFT_LEADER=3\n"
				     "RAFT_PEER=18446744073709551615\n");
	assert_string_equal(take_stderr(fixture), "");
	service_init("raft-bridge", 0, 6);
	service_log(6, NULL, "hello");
	assert_string_equal(journal, "MESSAGE=hello\nPRIORITY=6\nSYSLOG_IDENTIFIER=raft-bridge\n");
	assert_int_equal(journal_records, 2);
}

static void test_a_journal_that_refuses_loses_no_line(void **state)
{
	struct fixture *fixture = *state;

	pretend_stderr_is_the_journal(fixture);
	service_init("raftd", 3, 6);
	journal_result = -ENOBUFS;
	service_log(4, NULL, "hello");
	const char *text = take_stderr(fixture);
	assert_int_equal(strncmp(text, "<4>", 3), 0);
	assert_string_equal(skip_time(text + 3), "raftd@3 hello\n");
}

static void test_control_characters_do_not_reach_the_terminal(void **state)
{
	struct fixture *fixture = *state;

	service_init("raftd", 3, 6);
	service_log(6, NULL, "a%sb", "\033[2J\r\t\x7f");
	assert_string_equal(skip_time(take_stderr(fixture)), "raftd@3 a?[2J? ?b\n");
}

static void test_long_lines_are_cut_and_say_so(void **state)
{
	struct fixture *fixture = *state;
	char big[5000];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	service_init("raftd", 3, 6);
	service_log(6,
		    "an-event-whose-name-is-much-longer-than-any-real-one-and-than-its-field-in-the-journal-may-ever-"
		    "be-here",
		    "%s", big);
	const char *text = take_stderr(fixture);
	assert_true(strlen(text) > 2000 && strlen(text) < 2200);
	assert_non_null(strstr(text, "xxx [...]\n"));
}

static void test_logging_keeps_errno(void **state)
{
	(void)state;
	service_init("raftd", 3, 6);
	errno = ENOSPC;
	service_log(3, NULL, "%m");
	assert_int_equal(errno, ENOSPC);
}

static void test_a_call_site_that_repeats_itself_is_limited(void **state)
{
	struct fixture *fixture = *state;

	service_init("raftd", 3, 6);
	/* Before it is ready every line counts: a configuration may have many mistakes. */
	for (int i = 0; i < 50; i++)
		service_log(3, "config", "mistake %d", i);
	assert_int_equal(count_lines(take_stderr(fixture)), 50);
	service_notify_ready();
	for (int i = 0; i < 1000; i++)
		service_log(4, "bad-frame", "bad frame %d", i);
	assert_int_equal(count_lines(take_stderr(fixture)), LIMITER_LINES_MAX);
	/* Others are not affected, nor another event of the same site. */
	service_log(4, "bad-frame", "another site");
	service_log(4, "other", "bad frame %d", 1);
	assert_int_equal(count_lines(take_stderr(fixture)), 2);
}

/* The limiter, with a clock of our own ------------------------------------------------------------------------ */

static void test_limiter_counts_what_it_suppresses_and_reports_it_once(void **state)
{
	static const char site[] = "site";
	struct limiter limiter = {0};
	struct limiter_source source;
	uint64_t now_us = 1000000;

	(void)state;
	for (unsigned i = 0; i < LIMITER_LINES_MAX; i++)
		assert_true(limiter_allow(&limiter, site, "event", now_us++));
	for (unsigned i = 0; i < 7; i++)
		assert_false(limiter_allow(&limiter, site, "event", now_us++));
	assert_false(limiter_take_suppressed(&limiter, 1000000 + LIMITER_WINDOW_US - 1, &source));
	assert_true(limiter_take_suppressed(&limiter, 1000000 + LIMITER_WINDOW_US, &source));
	assert_int_equal(source.suppressed, 7);
	assert_string_equal(source.event, "event");
	assert_string_equal(source.format, "site");
	assert_false(limiter_take_suppressed(&limiter, UINT64_MAX, &source));
	assert_true(limiter_allow(&limiter, site, "event", now_us));
}

static void test_limiter_lets_a_new_window_begin(void **state)
{
	static const char site[] = "site";
	struct limiter limiter = {0};
	struct limiter_source source;

	(void)state;
	/* Ten in every window are never too many. */
	for (uint64_t window = 0; window < 5; window++) {
		for (unsigned i = 0; i < LIMITER_LINES_MAX; i++)
			assert_true(limiter_allow(&limiter, site, NULL, window * LIMITER_WINDOW_US + i));
	}
	assert_false(limiter_allow(&limiter, site, NULL, 4 * LIMITER_WINDOW_US + 99));
	/* The clock of the next line may be behind; that ends no window. */
	assert_false(limiter_allow(&limiter, site, NULL, 1));
	assert_false(limiter_take_suppressed(&limiter, 1, &source));
}

static void test_limiter_tells_sites_and_events_apart(void **state)
{
	static const char one[] = "same text", two[] = "same text";
	struct limiter limiter = {0};

	(void)state;
	assert_ptr_not_equal(one, two);
	for (unsigned i = 0; i < LIMITER_LINES_MAX; i++) {
		assert_true(limiter_allow(&limiter, one, NULL, i));
		assert_true(limiter_allow(&limiter, two, NULL, i));
		assert_true(limiter_allow(&limiter, one, "a", i));
		assert_true(limiter_allow(&limiter, one, "b", i));
	}
	assert_false(limiter_allow(&limiter, one, NULL, 99));
	assert_false(limiter_allow(&limiter, two, NULL, 99));
	assert_false(limiter_allow(&limiter, one, "a", 99));
	assert_false(limiter_allow(&limiter, one, "b", 99));
}

static void test_limiter_keeps_the_noisiest_when_sources_are_too_many(void **state)
{
	static const char noisy[] = "noisy", sites[1000][8];
	struct limiter limiter = {0};
	struct limiter_source source;

	(void)state;
	for (unsigned i = 0; i < LIMITER_LINES_MAX + 3; i++)
		(void)limiter_allow(&limiter, noisy, NULL, 0);
	for (unsigned i = 0; i < 1000; i++)
		assert_true(limiter_allow(&limiter, sites[i], NULL, i));
	assert_false(limiter_allow(&limiter, noisy, NULL, 1000));
	assert_true(limiter_take_suppressed(&limiter, LIMITER_WINDOW_US, &source));
	assert_int_equal(source.suppressed, 4);
}

/* Notifications ----------------------------------------------------------------------------------------------- */

static void test_notifications_reach_the_service_manager(void **state)
{
	struct fixture *fixture = *state;

	service_init("raftd", 3, 6);
	service_notify_ready();
	assert_string_equal(take_notification(fixture), "READY=1");
	service_notify_stopping();
	assert_string_equal(take_notification(fixture), "STOPPING=1");
	service_notify_extend_us(30000000);
	assert_string_equal(take_notification(fixture), "EXTEND_TIMEOUT_USEC=30000000");
	service_watchdog_ping();
	assert_string_equal(take_notification(fixture), "WATCHDOG=1");
}

static void test_status_is_sent_when_it_changes_and_cannot_smuggle_assignments(void **state)
{
	struct fixture *fixture = *state;

	service_init("raftd", 3, 6);
	service_notify_status("follower of %d", 3);
	assert_string_equal(take_notification(fixture), "STATUS=follower of 3");
	service_notify_status("follower of %d", 3);
	assert_string_equal(take_notification(fixture), "");
	service_notify_status("a\nREADY=1");
	assert_string_equal(take_notification(fixture), "STATUS=a READY=1");
	service_notify_status("follower of %d", 3);
	assert_string_equal(take_notification(fixture), "STATUS=follower of 3");
}

static void test_without_a_service_manager_notifications_go_nowhere(void **state)
{
	struct fixture *fixture = *state;

	unsetenv("NOTIFY_SOCKET");
	service_init("raftd", 3, 6);
	service_notify_ready();
	service_watchdog_ping();
	assert_string_equal(take_notification(fixture), "");
	assert_string_equal(take_stderr(fixture), "");
}

static void test_watchdog_interval_is_half_of_what_systemd_allows(void **state)
{
	struct fixture *fixture = *state;
	char pid[16];

	service_init("raftd", 3, 6);
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	assert_int_equal(service_watchdog_interval_us(), 0);
	setenv("WATCHDOG_USEC", "10000000", 1);
	assert_int_equal(service_watchdog_interval_us(), 5000000);
	setenv("WATCHDOG_PID", "1", 1); /* meant for another process */
	assert_int_equal(service_watchdog_interval_us(), 0);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("WATCHDOG_PID", pid, 1);
	assert_int_equal(service_watchdog_interval_us(), 5000000);
	assert_string_equal(take_stderr(fixture), "");
	setenv("WATCHDOG_USEC", "soon", 1);
	assert_int_equal(service_watchdog_interval_us(), 0);
	assert_int_equal(count_lines(take_stderr(fixture)), 1);
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

/* Passed sockets ------------------------------------------------------------------------------------------------ */

enum passed { PASS_NOTHING, PASS_LISTENER, PASS_DATAGRAM, PASS_UNLISTENED, PASS_TWO, PASS_RUBBISH };

static int passed_socket(enum passed what)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX}; /* binds to a name of the kernel's choice */
	int fd = socket(AF_UNIX, what == PASS_DATAGRAM ? SOCK_DGRAM : SOCK_STREAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) != 0)
		return -1;
	if (what != PASS_UNLISTENED && what != PASS_DATAGRAM && listen(fd, 1) != 0)
		return -1;
	return fd;
}

/* In a child, since the descriptor has to be number 3: exit status 0 when service_listen_fd returned `expected`. */
static int listen_in_child(enum passed what, int expected)
{
	char pid[16];

	if (what != PASS_NOTHING) {
		int fd = passed_socket(what);
		if (fd < 0 || (fd != 3 && dup2(fd, 3) != 3))
			return 8;
		snprintf(pid, sizeof(pid), "%d", (int)getpid());
		setenv("LISTEN_PID", pid, 1);
		setenv("LISTEN_FDS", what == PASS_TWO ? "2" : what == PASS_RUBBISH ? "x" : "1", 1);
		if (what == PASS_TWO && dup2(3, 4) != 4)
			return 8;
	}
	int result = service_listen_fd();
	if (result != expected)
		return 1;
	if (what != PASS_NOTHING && getenv("LISTEN_FDS") != NULL)
		return 2;
	if (result >= 0 && ((fcntl(3, F_GETFL) & O_NONBLOCK) == 0 || (fcntl(3, F_GETFD) & FD_CLOEXEC) == 0))
		return 3;
	return 0;
}

static void test_a_passed_listening_socket_is_taken_and_nothing_else(void **state)
{
	struct fixture *fixture = *state;
	static const struct {
		enum passed what;
		int expected;
		unsigned lines;
	} cases[] = {{PASS_NOTHING, -1, 0},	    {PASS_LISTENER, 3, 0},  {PASS_DATAGRAM, -EINVAL, 1},
		     {PASS_UNLISTENED, -EINVAL, 1}, {PASS_TWO, -EINVAL, 1}, {PASS_RUBBISH, -EINVAL, 1}};

	service_init("raft-bridge", 0, 6);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int status;
		pid_t child = fork();
		assert_true(child >= 0);
		if (child == 0)
			_exit(listen_in_child(cases[i].what, cases[i].expected));
		assert_int_equal(waitpid(child, &status, 0), child);
		if (status != 0)
			fail_msg("case %zu: status 0x%x", i, status);
		assert_int_equal(count_lines(take_stderr(fixture)), cases[i].lines);
	}
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_a_line_on_stderr_is_readable),
		CASE(test_levels_above_the_chosen_one_are_silent),
		CASE(test_under_systemd_without_the_journal_lines_carry_their_level),
		CASE(test_the_journal_gets_fields),
		CASE(test_a_journal_that_refuses_loses_no_line),
		CASE(test_control_characters_do_not_reach_the_terminal),
		CASE(test_long_lines_are_cut_and_say_so),
		CASE(test_logging_keeps_errno),
		CASE(test_a_call_site_that_repeats_itself_is_limited),
		CASE(test_limiter_counts_what_it_suppresses_and_reports_it_once),
		CASE(test_limiter_lets_a_new_window_begin),
		CASE(test_limiter_tells_sites_and_events_apart),
		CASE(test_limiter_keeps_the_noisiest_when_sources_are_too_many),
		CASE(test_notifications_reach_the_service_manager),
		CASE(test_status_is_sent_when_it_changes_and_cannot_smuggle_assignments),
		CASE(test_without_a_service_manager_notifications_go_nowhere),
		CASE(test_watchdog_interval_is_half_of_what_systemd_allows),
		CASE(test_a_passed_listening_socket_is_taken_and_nothing_else),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
