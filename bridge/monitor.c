/* See monitor.h. Names and meanings are also in daemon/metrics/README.md; a test compares the two. */
#include "bridge/monitor.h"

#include "bridge/clock.h"
#include "daemon/metrics/endpoint.h"
#include "daemon/metrics/process.h"
#include "daemon/service/service.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SOCKET_MODE 0660u

struct monitor {
	struct monitor_sources sources;
	struct metrics_endpoint *endpoint;
	struct metrics_histogram turns;
	uint64_t turn_us_max;
	uint64_t started_us;
	bool stopping;
};

enum family {
	BUILD_INFO,
	HAS_LEADER,
	LEADER,
	MEMBER_UP,
	MEMBER_SILENT,
	CONNECTIONS,
	CONNECTIONS_MAX,
	ACCEPTED,
	REQUESTS,
	FAILURES,
	FRAMES,
	RESTARTS,
	REGISTERED,
	QUEUE_ITEMS,
	QUEUE_ITEMS_MAX,
	QUEUE_BYTES,
	QUEUE_BYTES_MAX,
	POOL_BYTES,
	TURN_SECONDS,
	TURN_MAX,
	JOURNAL_LINES,
	JOURNAL_SUPPRESSED,
	JOURNAL_MAX,
	N_FAMILIES
};

static const struct metrics_family families[N_FAMILIES] = {
	[BUILD_INFO] = {"raftkv_bridge_build_info", METRICS_GAUGE, "Always 1; the version of the program."},
	[HAS_LEADER] = {"raftkv_bridge_has_leader", METRICS_GAUGE, "1 while a leader is known that can be sent to."},
	[LEADER] = {"raftkv_bridge_leader", METRICS_GAUGE, "The id of the leader last known, 0 for none."},
	[MEMBER_UP] = {"raftkv_bridge_member_connected", METRICS_GAUGE, "1 while there is a connection to the member."},
	[MEMBER_SILENT] = {"raftkv_bridge_member_silent", METRICS_GAUGE,
			   "1 while the member owes an answer for longer than an election timeout."},
	[CONNECTIONS] = {"raftkv_bridge_connections", METRICS_GAUGE, "Connections of clients."},
	[CONNECTIONS_MAX] = {"raftkv_bridge_connections_limit", METRICS_GAUGE,
			     "The bound of raftkv_bridge_connections; more wait to be accepted."},
	[ACCEPTED] = {"raftkv_bridge_accepted_connections_total", METRICS_COUNTER, "Connections accepted."},
	[REQUESTS] = {"raftkv_bridge_requests_total", METRICS_COUNTER,
		      "Requests taken from clients: writes, linearizable reads, stale reads."},
	[FAILURES] = {"raftkv_bridge_failed_requests_total", METRICS_COUNTER,
		      "Requests answered with an error after their time was over: failed surely, or unknown."},
	[FRAMES] = {"raftkv_bridge_sent_frames_total", METRICS_COUNTER, "Frames of requests sent to members."},
	[RESTARTS] = {"raftkv_bridge_window_restarts_total", METRICS_COUNTER,
		      "How often all unanswered writes were sent again, as after a change of the leader."},
	[REGISTERED] = {"raftkv_bridge_registered_sessions_total", METRICS_COUNTER,
			"Sessions registered with the store."},
	[QUEUE_ITEMS] = {"raftkv_bridge_queue_items", METRICS_GAUGE,
			 "What waits: writes to be sent, writes to be answered, reads."},
	[QUEUE_ITEMS_MAX] = {"raftkv_bridge_queue_limit_items", METRICS_GAUGE,
			     "The bound of raftkv_bridge_queue_items; a full queue holds up the connections."},
	[QUEUE_BYTES] = {"raftkv_bridge_queue_bytes", METRICS_GAUGE,
			 "Bytes that wait: writes to be sent, writes to be answered, unfinished lines, answers that "
			 "were not read yet."},
	[QUEUE_BYTES_MAX] = {"raftkv_bridge_queue_limit_bytes", METRICS_GAUGE,
			     "The bound of raftkv_bridge_queue_bytes."},
	[POOL_BYTES] = {"raftkv_bridge_pool_bytes", METRICS_GAUGE, "Memory in use for requests and buffers."},
	[TURN_SECONDS] = {"raftkv_bridge_loop_turn_duration_seconds", METRICS_HISTOGRAM,
			  "How long each turn of the event loop took after its events."},
	[TURN_MAX] = {"raftkv_bridge_loop_stall_seconds", METRICS_GAUGE, "The longest turn since the start."},
	[JOURNAL_LINES] = {"raftkv_bridge_journal_lines_total", METRICS_COUNTER,
			   "Lines written to the journal or stderr."},
	[JOURNAL_SUPPRESSED] = {"raftkv_bridge_journal_suppressed_lines_total", METRICS_COUNTER,
				"Lines left out as repetition."},
	[JOURNAL_MAX] = {"raftkv_bridge_journal_longest_write_seconds", METRICS_GAUGE,
			 "The longest that writing one line took: nothing else happens meanwhile."},
};

static void single(struct metrics_text *text, enum family family, uint64_t value)
{
	metrics_single(text, &families[family], value);
}

static void labelled(struct metrics_text *text, const char *name, const char *value, uint64_t number)
{
	metrics_value(text, METRICS_LABEL(name, value), number);
}

static void render_members(const struct monitor *monitor, struct metrics_text *text)
{
	const struct members *members = monitor->sources.members;
	uint64_t now_ms = clock_now_ms();
	char id[24];

	single(text, HAS_LEADER, members_leader(members, now_ms) != MEMBERS_NONE);
	single(text, LEADER, members_leader_id(members));
	for (unsigned pass = 0; pass < 2; pass++) {
		metrics_family(text, &families[pass == 0 ? MEMBER_UP : MEMBER_SILENT]);
		for (unsigned k = 0; k < members_count(members); k++) {
			(void)snprintf(id, sizeof id, "%" PRIu64, members_id(members, k));
			if (members_id(members, k) != 0)
				labelled(text, "member", id,
					 pass == 0 ? members_is_up(members, k) : members_is_silent(members, k, now_ms));
		}
	}
}

static void render_requests(const struct monitor *monitor, struct metrics_text *text)
{
	const struct session_counters *counters = session_get_counters(monitor->sources.session);
	struct clients_stats clients = clients_get_stats(monitor->sources.clients);

	single(text, CONNECTIONS, clients.connections);
	single(text, CONNECTIONS_MAX, clients.connections_max);
	single(text, ACCEPTED, clients.accepted);
	metrics_family(text, &families[REQUESTS]);
	labelled(text, "kind", "write", counters->writes);
	labelled(text, "kind", "read", counters->reads);
	labelled(text, "kind", "stale_read", counters->stale_reads);
	metrics_family(text, &families[FAILURES]);
	labelled(text, "outcome", "failed", counters->failed);
	labelled(text, "outcome", "unknown", counters->unknown);
	single(text, FRAMES, counters->frames);
	single(text, RESTARTS, counters->restarts);
	single(text, REGISTERED, counters->sessions);
}

static void render_queues(const struct monitor *monitor, struct metrics_text *text)
{
	struct clients_stats clients = clients_get_stats(monitor->sources.clients);
	struct session_queues queues = session_get_queues(monitor->sources.session);

	metrics_family(text, &families[QUEUE_ITEMS]);
	labelled(text, "queue", "writes_waiting", queues.writes_waiting);
	labelled(text, "queue", "writes_sent", queues.writes_sent);
	labelled(text, "queue", "reads", queues.reads);
	metrics_family(text, &families[QUEUE_ITEMS_MAX]);
	labelled(text, "queue", "writes_waiting", queues.writes_waiting_max);
	labelled(text, "queue", "writes_sent", queues.writes_sent_max);
	labelled(text, "queue", "reads", queues.reads_max);
	metrics_family(text, &families[QUEUE_BYTES]);
	labelled(text, "queue", "writes_waiting", queues.waiting_bytes);
	labelled(text, "queue", "writes_sent", queues.sent_bytes);
	labelled(text, "queue", "input", clients.input_bytes);
	labelled(text, "queue", "output", clients.output_bytes);
	metrics_family(text, &families[QUEUE_BYTES_MAX]);
	labelled(text, "queue", "writes_waiting", queues.waiting_bytes_max);
	labelled(text, "queue", "writes_sent", queues.sent_bytes_max);
	labelled(text, "queue", "input", clients.input_bytes_max);
	labelled(text, "queue", "output", clients.output_bytes_max);
	single(text, POOL_BYTES, monitor->sources.pool->used_bytes);
}

static void render(void *arg, struct metrics_text *text)
{
	const struct monitor *monitor = arg;
	struct service_stats journal;

	metrics_family(text, &families[BUILD_INFO]);
	labelled(text, "version", RAFT_KV_VERSION, 1);
	render_members(monitor, text);
	render_requests(monitor, text);
	render_queues(monitor, text);
	metrics_family(text, &families[TURN_SECONDS]);
	metrics_histogram(text, &monitor->turns);
	metrics_single_seconds(text, &families[TURN_MAX], monitor->turn_us_max);
	service_get_stats(&journal);
	single(text, JOURNAL_LINES, journal.lines);
	single(text, JOURNAL_SUPPRESSED, journal.suppressed);
	metrics_single_seconds(text, &families[JOURNAL_MAX], journal.longest_us);
	metrics_process(text, monitor->started_us);
}

static bool check(void *arg, bool ready, struct metrics_text *text)
{
	const struct monitor *monitor = arg;
	bool leader = members_leader(monitor->sources.members, clock_now_ms()) != MEMBERS_NONE;

	metrics_line(text, "[+]loop: turns");
	if (!ready)
		return true;
	metrics_line(text, "[%c]clients: %s", monitor->stopping ? '-' : '+', monitor->stopping ? "it stops" : "served");
	metrics_line(text, "[%c]leader: %s", leader ? '+' : '-', leader ? "known" : "none can be reached");
	return leader && !monitor->stopping;
}

int monitor_new(const struct monitor_sources *sources, struct monitor **ret_monitor)
{
	char message[METRICS_MESSAGE_MAX] = "";
	const struct config_listen *listen = &sources->config->bridge_metrics;

	*ret_monitor = NULL;
	if (listen->path[0] == '\0' && listen->host[0] == '\0')
		return 0;
	struct monitor *monitor = calloc(1, sizeof *monitor);
	if (monitor == NULL)
		return -ENOMEM;
	monitor->sources = *sources;
	monitor->started_us = metrics_now_us();
	struct metrics_endpoint_options options = {.base = sources->base,
						   .path = listen->path,
						   .mode = SOCKET_MODE,
						   .host = listen->host,
						   .port = listen->port,
						   .priority = 0, /* all have the same */
						   .render = render,
						   .check = check,
						   .arg = monitor};
	int r = metrics_endpoint_open(&options, &monitor->endpoint, message);
	if (r < 0) {
		service_log(3, "metrics-failed", "%s; see metrics_listen in raft.conf", message);
		free(monitor);
		return r;
	}
	*ret_monitor = monitor;
	return 0;
}

struct monitor *monitor_free(struct monitor *monitor)
{
	if (monitor != NULL)
		metrics_endpoint_free(monitor->endpoint);
	free(monitor);
	return NULL;
}

uint64_t monitor_begin_turn(const struct monitor *monitor)
{
	return monitor == NULL ? 0 : metrics_now_us();
}

void monitor_end_turn(struct monitor *monitor, uint64_t begin)
{
	if (monitor == NULL)
		return;
	uint64_t us = metrics_now_us() - begin;
	metrics_count(&monitor->turns, us);
	if (us > monitor->turn_us_max)
		monitor->turn_us_max = us;
}

void monitor_note_stopping(struct monitor *monitor)
{
	if (monitor != NULL)
		monitor->stopping = true;
}
