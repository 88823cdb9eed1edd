/*
 * See service.h. The only file of the project that includes systemd's headers.
 *
 * The state below is the process's own: who it is and where its lines go. It is the one exception to the rule
 * against statics, since a log line must be possible where no object is at hand. All calls come from the process's main
 * thread; the disk threads report errors as values.
 *
 * sd_journal_send blocks while journald is stuck, which is why repetition is limited before it (limiter.h).
 */
#include "daemon/service/service.h"

#include "daemon/assert.h"
#include "daemon/service/limiter.h"
#include "daemon/service/messages.h"

#define SD_JOURNAL_SUPPRESS_LOCATION /* file and line of this file say nothing */
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE_MAX 2048u
#define STATUS_MAX 256u
#define FIELDS_MAX 11
#define FIELD_SIZE_MAX 96u /* of all fields but MESSAGE */
#define LEVEL_WARNING 4
#define LEVEL_DEBUG 7

enum log_target {
	LOG_STDERR,	     /* readable lines */
	LOG_STDERR_PREFIXED, /* the same behind <N>, for a service manager that reads stderr through something else */
	LOG_JOURNAL,
};

static struct {
	char name[32];
	char identifier[64]; /* the name, and of which member: raftd@3 */
	uint64_t member;
	int level_max;
	bool ready; /* repetition is limited from here on: what comes before has an end */
	enum log_target target;
	struct limiter limiter;
	char status[STATUS_MAX]; /* the last one that was sent */
	struct service_stats stats;
} service = {.name = "raft", .identifier = "raft", .level_max = 6};

/* Where log lines go -------------------------------------------------------------------------------------- */

/* systemd.exec(5): JOURNAL_STREAM is "device:inode" of the socket to the journal. When it is not stderr's, somebody redirected
 * stderr, and wants to see the lines there. */
static bool stderr_is_journal(const char *stream)
{
	struct stat st;
	char expected[64];

	raft_assert(stream != NULL);
	if (fstat(STDERR_FILENO, &st) != 0)
		return false;
	(void)snprintf(expected, sizeof(expected), "%llu:%llu", (unsigned long long)st.st_dev,
		       (unsigned long long)st.st_ino);
	return strcmp(stream, expected) == 0;
}

static enum log_target choose_target(void)
{
	const char *stream = getenv("JOURNAL_STREAM");

	if (stream != NULL && stderr_is_journal(stream))
		return LOG_JOURNAL;
	if ((stream != NULL || getenv("INVOCATION_ID") != NULL) && isatty(STDERR_FILENO) == 0)
		return LOG_STDERR_PREFIXED;
	return LOG_STDERR;
}

void service_init(const char *name, uint64_t member, int level_max)
{
	raft_assert(name != NULL && name[0] != '\0');
	memset(&service, 0, sizeof(service));
	(void)snprintf(service.name, sizeof(service.name), "%s", name);
	service.member = member;
	if (member != 0)
		(void)snprintf(service.identifier, sizeof(service.identifier), "%s@%llu", service.name,
			       (unsigned long long)member);
	else
		memcpy(service.identifier, service.name, sizeof(service.name));
	service_set_level(level_max);
	service.target = choose_target();
}

void service_set_level(int level_max)
{
	raft_assert(level_max >= 0 && level_max <= LEVEL_DEBUG);
	service.level_max = level_max;
}

/* Writing one line ---------------------------------------------------------------------------------------- */

static uint64_t now_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* HH:MM:SS.mmm of the wall clock, for a person at a terminal. */
static void print_time(char *ret, size_t size)
{
	struct timespec now;
	struct tm local;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (localtime_r(&now.tv_sec, &local) == NULL)
		memset(&local, 0, sizeof(local));
	(void)snprintf(ret, size, "%02d:%02d:%02d.%03ld", local.tm_hour, local.tm_min, local.tm_sec,
		       now.tv_nsec / 1000000);
}

/* One write per line, so that lines of several processes do not mix. A message of several lines becomes several, each with its
 * head. */
static void write_stderr(int level, const char *message)
{
	char head[128], prefix[8] = "", time[32], line[sizeof(head) + MESSAGE_MAX + 1];

	if (service.target != LOG_STDERR)
		(void)snprintf(prefix, sizeof(prefix), "<%d>", level);
	print_time(time, sizeof(time));
	(void)snprintf(head, sizeof(head), "%s%.15s %s ", prefix, time, service.identifier);
	while (*message != '\0') {
		size_t len = strcspn(message, "\n");
		raft_assert(len < MESSAGE_MAX);
		int n = snprintf(line, sizeof(line), "%s%.*s\n", head, (int)len, message);
		raft_assert(n > 0 && (size_t)n < sizeof(line));
		/* Nowhere is left to report a failure to. */
		ssize_t written = write(STDERR_FILENO, line, (size_t)n);
		(void)written;
		message += len + (message[len] == '\n' ? 1 : 0);
	}
}

/* Fields for the journal under construction. */
struct record {
	struct iovec iov[FIELDS_MAX];
	int n;
	char text[FIELDS_MAX][FIELD_SIZE_MAX];
};

static void add_text(struct record *record, const char *field, const char *value)
{
	raft_assert(record->n < FIELDS_MAX);
	if (value == NULL)
		return;
	char *text = record->text[record->n];
	int n = snprintf(text, FIELD_SIZE_MAX, "%s=%s", field, value);
	raft_assert(n > 0);
	size_t len =
		(size_t)n < FIELD_SIZE_MAX ? (size_t)n : FIELD_SIZE_MAX - 1; /* cut: no value of ours is that long */
	record->iov[record->n++] = (struct iovec){.iov_base = text, .iov_len = len};
}

static void add_number(struct record *record, const char *field, uint64_t value)
{
	char text[24];

	if (value == 0)
		return;
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	add_text(record, field, text);
}

static int send_journal(int level, const char *event, const struct service_fields *fields, const char *message)
{
	char text[sizeof("MESSAGE=") + MESSAGE_MAX], priority[12];
	struct record record = {.n = 1};

	int n = snprintf(text, sizeof(text), "MESSAGE=%s", message);
	raft_assert(n > 0 && (size_t)n < sizeof(text));
	record.iov[0] = (struct iovec){.iov_base = text, .iov_len = (size_t)n};
	(void)snprintf(priority, sizeof(priority), "%d", level);
	add_text(&record, "PRIORITY", priority);
	add_text(&record, "SYSLOG_IDENTIFIER", service.identifier);
	add_number(&record, "RAFT_NODE", service.member);
	add_text(&record, "RAFT_EVENT", event);
	add_text(&record, "MESSAGE_ID", message_id(event));
	if (fields != NULL) {
		add_number(&record, "RAFT_TERM", fields->term);
		add_text(&record, "RAFT_ROLE", fields->role);
		add_number(&record, "RAFT_LEADER", fields->leader);
		add_number(&record, "RAFT_INDEX", fields->index);
		add_number(&record, "RAFT_PEER", fields->peer);
	}
	return sd_journal_sendv(record.iov, record.n);
}

static void write_line(int level, const char *event, const struct service_fields *fields, const char *message)
{
	raft_assert(level >= 0 && level <= LEVEL_DEBUG);
	/* stderr is still connected to journald when its datagram socket refuses, and <N> is understood there. */
	uint64_t begin = now_us();
	if (service.target != LOG_JOURNAL || send_journal(level, event, fields, message) < 0)
		write_stderr(level, message);
	uint64_t us = now_us() - begin;
	service.stats.lines++;
	if (us > service.stats.longest_us)
		service.stats.longest_us = us;
}

/* A line must not be able to move the cursor of the terminal that shows it: what peers and clients send may be in it. */
static void make_printable(char *text)
{
	size_t len = strlen(text);

	while (len > 0 && text[len - 1] == '\n')
		text[--len] = '\0';
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c == '\t')
			text[i] = ' ';
		else if ((c < 0x20 && c != '\n') || c == 0x7f)
			text[i] = '?';
	}
}

void service_get_stats(struct service_stats *ret_stats)
{
	*ret_stats = service.stats;
}

static void report_suppressed(uint64_t at_us)
{
	struct limiter_source source;
	char text[MESSAGE_MAX];

	while (limiter_take_suppressed(&service.limiter, at_us, &source)) {
		const char *what = source.event[0] != '\0' ? source.event : source.format;
		(void)snprintf(text, sizeof(text), "suppressed %u more lines like '%s'", source.suppressed, what);
		make_printable(text);
		write_line(LEVEL_WARNING, "log-suppressed", NULL, text);
	}
}

__attribute__((format(printf, 4, 0))) static void
log_va(int level, const char *event, const struct service_fields *fields, const char *format, va_list args)
{
	static const char cut[] = " [...]";
	char message[MESSAGE_MAX];

	raft_assert(level >= 0 && level <= LEVEL_DEBUG && format != NULL);
	if (level > service.level_max)
		return;
	int error = errno; /* logging about an error must not change it */
	uint64_t at_us = now_us();
	report_suppressed(at_us);
	bool allowed = !service.ready || limiter_allow(&service.limiter, format, event, at_us);
	service.stats.suppressed += !allowed;
	if (allowed) {
		int n = vsnprintf(message, sizeof(message), format, args);
		if (n < 0)
			message[0] = '\0';
		else if ((size_t)n >= sizeof(message))
			memcpy(message + sizeof(message) - sizeof(cut), cut, sizeof(cut));
		make_printable(message);
		write_line(level, event, fields, message);
	}
	errno = error;
}

void service_log(int level, const char *event, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_va(level, event, NULL, format, args);
	va_end(args);
}

void service_log_fields(int level, const char *event, const struct service_fields *fields, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_va(level, event, fields, format, args);
	va_end(args);
}

/* Notification -------------------------------------------------------------------------------------------- */

/* A service manager that cannot be told is no reason to stop: it will see for itself. */
static void notify(const char *state)
{
	raft_assert(state != NULL);
	(void)sd_notify(0, state);
}

void service_notify_ready(void)
{
	service.ready = true;
	notify("READY=1");
}

/* The time tells newer service managers which of several reloads this is. */
void service_notify_reloading(void)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)now_us());
	notify(text);
}

void service_notify_stopping(void)
{
	notify("STOPPING=1");
}

void service_notify_status(const char *format, ...)
{
	char status[STATUS_MAX], text[sizeof("STATUS=") + STATUS_MAX];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(status, sizeof(status), format, args); /* cut when too long */
	va_end(args);
	/* A newline would begin another assignment. */
	for (char *c = status; *c != '\0'; c++) {
		if (*c == '\n')
			*c = ' ';
	}
	if (strcmp(status, service.status) == 0)
		return;
	memcpy(service.status, status, sizeof(status));
	(void)snprintf(text, sizeof(text), "STATUS=%s", status);
	notify(text);
}

void service_notify_extend_us(uint64_t us)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)us);
	notify(text);
}

uint64_t service_watchdog_interval_us(void)
{
	uint64_t timeout_us = 0;
	int r = sd_watchdog_enabled(0, &timeout_us);

	if (r < 0)
		service_log(LEVEL_WARNING, "watchdog-invalid",
			    "no watchdog: WATCHDOG_USEC or WATCHDOG_PID is wrong: %s", strerror(-r));
	return r > 0 ? timeout_us / 2 : 0;
}

void service_watchdog_ping(void)
{
	notify("WATCHDOG=1");
	/* Called now and then in any case: a source that fell silent has its count reported, too. */
	report_suppressed(now_us());
}

/* Passed sockets ------------------------------------------------------------------------------------------ */

static int prepare_listen_fd(int fd)
{
	int r = sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1);

	if (r < 0)
		return r;
	if (r == 0)
		return -EINVAL;
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	/* sd_listen_fds has set it; that it is set is the promise made here. */
	return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

int service_listen_fd(void)
{
	int n = sd_listen_fds(1);

	if (n == 0)
		return -1;
	if (n < 0) {
		service_log(3, "socket-invalid", "cannot use the passed sockets: LISTEN_FDS is wrong: %s",
			    strerror(-n));
		return -EINVAL;
	}
	if (n > 1) {
		service_log(3, "socket-invalid",
			    "%d sockets were passed; the socket unit must have one ListenStream=", n);
		return -EINVAL;
	}
	int r = prepare_listen_fd(SD_LISTEN_FDS_START);
	if (r < 0) {
		service_log(3, "socket-invalid",
			    "the passed descriptor is no listening stream socket (%s); the socket unit needs "
			    "ListenStream= and Accept=no",
			    strerror(-r));
		return -EINVAL;
	}
	return SD_LISTEN_FDS_START;
}
