/*
 * What systemd sees of a process, and what the process sees of systemd: journal, notification, watchdog,
 * passed sockets. The only file with systemd's headers. raftd and raft-bridge link it; libraries do not.
 *
 * Outside systemd everything degrades: log lines go to stderr, notifications nowhere.
 *
 * What this must not know: anything of this project but that it has members, terms and roles to put in
 * journal fields.
 */
#ifndef RAFT_KV_SERVICE_H
#define RAFT_KV_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Call once at start. name: "raftd" or "raft-bridge", member: 0 for the bridge. Chooses journal (when stderr
 * is connected to it, $JOURNAL_STREAM) or stderr. level_max: syslog number, 3 … 7. */
void service_init(const char *name, uint64_t member, int level_max);
void service_set_level(int level_max);

/* One log line. level: syslog number. event: a short machine-readable word ("leader-elected"), put in the
 * field RAFT_EVENT, and its id (messages.h) in MESSAGE_ID; NULL for none. Once service_notify_ready was called, repetition is limited per call site and event: more
 * than 10 lines in 5 seconds from one are counted and reported as one "suppressed N". Before, every line counts: a
 * configuration may have more mistakes than that. */
void service_log(int level, const char *event, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same with journal fields: RAFT_TERM, RAFT_ROLE, RAFT_LEADER, RAFT_INDEX, RAFT_PEER; zero and NULL are left out. */
struct service_fields {
	uint64_t term;
	const char *role;
	uint64_t leader;
	uint64_t index;
	uint64_t peer;
};
void service_log_fields(int level, const char *event, const struct service_fields *fields, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

void service_notify_ready(void);
void service_notify_reloading(void); /* until the next service_notify_ready */
void service_notify_stopping(void);
void service_notify_status(const char *format, ...) __attribute__((format(printf, 1, 2))); /* deduplicated */
void service_notify_extend_us(uint64_t us);

/* Microseconds between watchdog pings that systemd expects (half of WatchdogSec), 0: no watchdog. */
uint64_t service_watchdog_interval_us(void);
void service_watchdog_ping(void);

/* Since the start: lines written, lines left out as repetition, and the longest that writing one took. */
struct service_stats {
	uint64_t lines, suppressed, longest_us;
};
void service_get_stats(struct service_stats *ret_stats);

/* The listening stream socket that systemd passed (socket activation): its descriptor, non-blocking and close-on-exec; -1 when
 * none was passed; -EINVAL (with a log line) when something else or more than one was passed. */
int service_listen_fd(void);

#endif
