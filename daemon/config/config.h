/*
 * The strict reader of raft.conf, shared by raftd, the replicator library, raft-bridge and raftctl.
 *
 * iniparser parses; everything it is known to get wrong is caught before or after it (TRAPS D4): a
 * pre-scan finds unknown, duplicate and malformed lines with their numbers, and numbers, durations, sizes and
 * endpoints are parsed here. Every mistake is reported as `file:line: [section] key: what is wrong, what is
 * allowed`, all of them and not only the first.
 *
 * What this must not know: Raft, ZeroMQ, how the values are used. Includes nothing else of this project but
 * entry.h for the limit on members.
 */
#ifndef RAFT_KV_CONFIG_H
#define RAFT_KV_CONFIG_H

#include "../entry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_NAME_MAX 64u	 /* cluster name */
#define CONFIG_ENDPOINT_MAX 200u /* bytes of one endpoint; an ipc path is at most 107 */
#define CONFIG_PATH_MAX 4000u

/*
 * [cluster]
 * name = example                 ; letters, digits, '-', '_', '.'
 * [member 1]                     ; one section a member, ids 1 … 2^63-1
 * peer = tcp://127.0.0.1:7401    ; where the other members reach it
 * client = tcp://127.0.0.1:7501  ; where bridges and raftctl reach it
 * data = /var/lib/raft/1         ; optional, default <data_root>/<id>
 * metrics_listen = …             ; optional, default that of [raft]
 * [raft]                         ; optional, as is every key in it
 * data_root = /var/lib/raft
 * heartbeat_ms = 50              ; 1 … 10000
 * election_timeout_min_ms = 150  ; > heartbeat_ms
 * election_timeout_max_ms = 300  ; > election_timeout_min_ms
 * read_mode = index              ; index, lease
 * clock_drift_percent = 10       ; 1 … 25; with read_mode = lease heartbeat_ms must be less than the lease that remains of
 *                                ; election_timeout_min_ms: * (100 - drift) / (100 + drift)
 * segment_size = 16MiB           ; 4MiB … 1GiB, multiple of 4096
 * log_cache_size = 32MiB         ; 1MiB … 64GiB
 * snapshot_log_size = 32MiB      ; 64KiB … 64GiB
 * snapshot_log_percent = 100     ; 10 … 10000
 * log_level = info               ; error, warning, notice, info, debug
 * metrics_listen = off           ; off, /run/raft/%i/metrics.sock, tcp://127.0.0.1:760%i; %i is the member's id. An address
 *                                ; of the network only as: open-to-network tcp://10.0.0.1:7601
 * [bridge]                       ; optional
 * socket = /run/raft/kv.sock
 * socket_mode = 0660             ; octal
 * request_timeout_ms = 5000      ; 10 … 3600000
 * connections_max = 16384        ; 1 … 1000000
 * metrics_listen = off           ; as above, without %i
 */

/* Where metrics and health are served: a Unix socket, an address, or (both empty) nowhere. */
#define CONFIG_LISTEN_PATH_MAX 107u /* what the kernel allows */
#define CONFIG_LISTEN_HOST_MAX 45u
struct config_listen {
	char path[CONFIG_LISTEN_PATH_MAX + 1];
	char host[CONFIG_LISTEN_HOST_MAX + 1]; /* a numeric address */
	uint16_t port;
};

struct config_member {
	uint64_t id;
	char peer[CONFIG_ENDPOINT_MAX + 1];
	char client[CONFIG_ENDPOINT_MAX + 1];
	char data[CONFIG_PATH_MAX + 1];
	struct config_listen metrics;
};

enum config_log_level {
	CONFIG_LOG_ERROR = 3,
	CONFIG_LOG_WARNING = 4,
	CONFIG_LOG_NOTICE = 5,
	CONFIG_LOG_INFO = 6,
	CONFIG_LOG_DEBUG = 7
}; /* syslog's numbers */

enum config_read_mode { CONFIG_READ_INDEX, CONFIG_READ_LEASE };

struct config {
	char cluster_name[CONFIG_NAME_MAX + 1];
	unsigned n_members; /* 1 … RAFT_MEMBERS_MAX, in ascending order of id */
	struct config_member members[RAFT_MEMBERS_MAX];
	uint32_t heartbeat_ms;
	uint32_t election_timeout_min_ms;
	uint32_t election_timeout_max_ms;
	enum config_read_mode read_mode;
	uint32_t clock_drift_percent;
	uint32_t segment_size;
	uint64_t log_cache_size;
	uint64_t snapshot_log_size;    /* a snapshot is due when the log since the last one is larger than this … */
	uint32_t snapshot_log_percent; /* … and than this share of the last snapshot's size */
	enum config_log_level log_level;
	char bridge_socket[CONFIG_PATH_MAX + 1];
	uint32_t bridge_socket_mode;
	uint32_t request_timeout_ms;
	uint32_t connections_max;
	struct config_listen bridge_metrics;
};

/* Reads and checks the file. Returns 0 and fills *ret_config, or the number of mistakes (> 0), each handed to
 * `report` as one complete line without newline; *ret_config is then untouched. An unreadable file is one mistake. Not
 * thread safe (iniparser has a global error callback). */
int config_read(const char *path, struct config *ret_config, void (*report)(void *arg, const char *line), void *arg)
	__attribute__((warn_unused_result));

/* Reports every key whose value differs, as "[raft] log_level", and every member that only one of them has, as "[member 4]". */
void config_compare(const struct config *a, const struct config *b, void (*report)(void *arg, const char *name),
		    void *arg);

/* The member with this id, or NULL. */
const struct config_member *config_find_member(const struct config *config, uint64_t id);

/* Strict parsers, also for command lines. True and *ret only if the whole text is one value in range. */
bool config_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret);
bool config_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret); /* 4096, 16KiB, 4MiB, 1GiB */
/* tcp://host:port, tcp://[ipv6]:port, ipc:///absolute/path; host a name or an address, port 1 … 65535. On false,
 * *ret_why is a static text that says what is wrong. */
bool config_parse_endpoint(const char *text, const char **ret_why);

#endif
