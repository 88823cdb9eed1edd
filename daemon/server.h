/*
 * One member at work: the event loop and what hangs on it. main.c makes and runs it; requests.c answers clients and is
 * the state machine's side of the replicator; state.c writes and loads the store whole; pages.c gives the long answers
 * (status, dump, log), which answers.c fills in; admin.c is for operators; manager.c for the service manager; health.c
 * and monitor.c tell how it fares.
 */
#ifndef RAFT_KV_SERVER_H
#define RAFT_KV_SERVER_H

#include "clients.h"
#include "daemon/config/config.h"
#include "daemon/metrics/endpoint.h"
#include "daemon/replicator/pending.h"
#include "daemon/replicator/replicator.h"
#include "daemon/service/service.h"
#include "kv/pins.h"
#include "kv/snapshot_stream.h"
#include "kv/store.h"

#include <event2/event.h>

/* Bounds of one turn of the loop, so that timers and peers are looked at in between. */
#define SERVER_FRAMES_MAX 64u
/* Requests that wait for a commit or a read round; beyond, clients are told KV_ANSWER_BUSY. */
#define SERVER_WAITING_MAX 1000000u
/* Commands proposed in one step: the replicator takes them all or none. A frame may hold more. */
#define SERVER_PROPOSALS_MAX 8192u
/* Bytes of values handed out in one turn: reads of large values must not keep the loop from its heartbeats. */
#define SERVER_READ_BYTES_MAX (512u * 1024u)
/* Status, dump and log answers to one frame: each may be a page of a mebibyte. */
#define SERVER_PAGES_MAX 16u

/* A write that the disk has not answered for so long is stuck: far above any sync of a disk that works. */
#define SERVER_DISK_ALIVE_US 5000000u

/* Counted for the metrics. */
struct server_counters {
	uint64_t proposals[KV_ANSWERS]; /* by enum kv_answer */
	uint64_t reads[KV_ANSWERS];	/* linearizable ones, likewise */
	uint64_t stale_reads;		/* answered */
	uint64_t frames, frame_bytes;	/* of clients */
	struct metrics_histogram turns; /* how long each turn of the loop took */
	uint64_t turn_us_max;
};

/* A proposal that waits: the k-th in the queue has ticket first_proposal_ticket + k. */
struct server_proposal {
	struct client *client;
	uint64_t id;
};

/* The reads of one frame: the linearizable ones share one read round, the stale ones wait for nothing. */
struct server_read_batch {
	uint64_t ticket; /* 0: stale */
	struct client *client;
	uint32_t n;	/* left to be answered */
	size_t next;	/* where the first of them begins in items */
	uint8_t *items; /* owned: n times {id u64, key size u64, key} */
};

#define SERVER_LEADER 3u /* the role of that number in replicator_status */

/* What the status line was made of. Without padding: it is compared whole. */
struct server_told {
	uint32_t role, blank, n_voters, n_answering;
	uint64_t leader, term, commit;
	uint64_t at_us; /* 0: never */
};

struct server {
	struct config *config;
	const char *config_path;
	const struct config_member *member;
	struct event_base *base;
	struct event *replicator_event;
	struct event *clients_event;
	struct event *terminate_event;
	struct event *interrupt_event;
	struct event *watchdog_event;
	struct event *reload_event;
	struct event *status_event; /* the status line changes again then */
	struct event *retry_event;  /* a client's queue was full */
	struct event *stop_event;   /* bounds the hand-over at a stop */

	struct zmq_context *zmq;
	struct zmq_socket *socket;
	struct clients clients;
	struct replicator *replicator;
	struct replicator_status status; /* refreshed once a turn */
	struct kv_store *store;
	struct kv_store_loader *loader; /* while a snapshot is being loaded */
	struct kv_pins pins;		/* of dumps and backups under way */
	uint64_t mark_index, mark_hash; /* see kv_member_status */
	uint64_t mark_passed;		/* the last one that was looked at */

	struct pending_queue proposals;	    /* struct server_proposal */
	uint64_t first_proposal_ticket;	    /* of the front; next one: this + count */
	struct pending_queue read_batches;  /* struct server_read_batch: waiting for their rounds, in order */
	struct pending_queue ready_batches; /* the same: may be answered now, some bytes a turn */
	uint64_t next_read_ticket;
	uint64_t reads_waiting;

	/* Scratch for the commands of one frame. */
	struct replicator_command *commands;
	uint64_t *command_ids;
	uint32_t commands_capacity;

	struct server_told told;
	uint64_t leaderless_us; /* since when; 0: there is a leader */
	bool leaderless_told;
	bool watchdog_withheld;

	uint64_t started_ms;
	uint64_t reads_answered;
	uint64_t bad_frames;
	struct server_counters counters;
	struct metrics_endpoint *metrics; /* NULL: not served */
	bool stopping;
	int exit_code;
};

/* main.c: by the log; by the configuration file while there is no cluster */
unsigned server_count_members(const struct server *server);

/* manager.c */
#define SERVER_TEXT_MAX 2048u
struct server_text {
	char text[SERVER_TEXT_MAX];
};
const char *server_role_name(unsigned role);
struct service_fields server_log_fields(const struct server *server);
void server_machine_starting(void *arg, uint64_t read_bytes, uint64_t bytes_max);
void server_tell_status(struct server *server); /* cheap when nothing has changed */
void server_watch_leader(struct server *server);
void server_feed_watchdog(struct server *server); /* only while the disk answers */
/* Reads the configuration again. True: what can be taken over is; false: it has mistakes, and nothing changed. *ret_text says
 * what was done, in lines. */
bool server_reload(struct server *server, struct server_text *ret_text);

/* requests.c */
extern const struct replicator_machine server_machine;
void server_take_frame(struct server *server, const struct zmq_identity *from, const uint8_t *frame, size_t len);
/* Answers reads that are ready, as many as fit one turn. True: more can be answered in the next one. */
bool server_answer_reads(struct server *server);
void server_requests_fini(struct server *server);

/* state.c: the rest of server_machine */
void *server_snapshot_take(void *arg);
size_t server_snapshot_read(void *arg, void *snapshot, uint8_t *buf, size_t capacity);
void server_snapshot_free(void *arg, void *snapshot);
int server_restore_begin(void *arg, uint64_t index);
int server_restore_feed(void *arg, const uint8_t *buf, size_t len);
int server_restore_end(void *arg, bool success);
uint64_t server_state_hash(void *arg);

/* admin.c: false when this is no such request. */
bool server_take_admin(struct server *server, struct client *client, const struct kv_frame_item *item);

/* health.c: bits of enum kv_check and enum kv_alarm, as of the last turn; server_check is for metrics/endpoint.h */
uint64_t server_failed_checks(const struct server *server);
uint64_t server_alarms(const struct server *server, const struct replicator_metrics *metrics);
bool server_check(void *arg, bool ready, struct metrics_text *text);

/* monitor.c: metrics, where the configuration wants them */
int server_open_metrics(struct server *server);

/* pages.c */
void server_answer_status(struct server *server, struct client *client, uint64_t id);
void server_answer_dump(struct server *server, struct client *client, const struct kv_frame_item *item);
void server_answer_backup(struct server *server, struct client *client, const struct kv_frame_item *item);
void server_answer_log(struct server *server, struct client *client, const struct kv_frame_item *item);

#endif
