/*
 * What the service manager is told: how far a start has come, the status line, that the loop turns; and what it asks:
 * to read the configuration again. main.c has the signals and calls this. What this must not know: clients, the disk.
 */
#include "server.h"

#include "daemon/assert.h"
#include "daemon/service/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Commit indexes and answering members change all the time; roles are told at once. */
#define STATUS_INTERVAL_US 1000000u
/* A start that reads on gets this much more time, again and again. */
#define START_EXTEND_US 60000000u
#define START_INTERVAL_US 1000000u
/* An election takes well below a second: whoever hears of no leader for so long should look. */
#define NO_LEADER_US 5000000u

const char *server_role_name(unsigned role)
{
	static const char *const names[] = {"follower", "pre-candidate", "candidate", "leader", "learner"};
	raft_assert(role < sizeof names / sizeof names[0]);
	return names[role];
}

struct service_fields server_log_fields(const struct server *server)
{
	return (struct service_fields){.term = server->status.term,
				       .role = server_role_name(server->status.role),
				       .leader = server->status.leader,
				       .index = server->status.commit};
}

static uint64_t now_us(void)
{
	struct timespec now;
	int r = clock_gettime(CLOCK_MONOTONIC, &now);
	raft_assert(r == 0);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* Starting --------------------------------------------------------------------------------------------- */

void server_machine_starting(void *arg, uint64_t read_bytes, uint64_t bytes_max)
{
	static const uint64_t mib = 1024 * 1024;
	struct server *server = arg;
	uint64_t now = now_us();
	if (server->told.at_us != 0 && now - server->told.at_us < START_INTERVAL_US)
		return;
	server->told.at_us = now;
	service_notify_extend_us(START_EXTEND_US);
	service_notify_status("recovers: %llu MiB read, of at most %llu", (unsigned long long)(read_bytes / mib),
			      (unsigned long long)(bytes_max / mib));
}

/* The status line -------------------------------------------------------------------------------------- */

/* Voters that answer this leader, or are connected to one that is none; itself included. */
static unsigned count_answering(const struct server *server)
{
	const struct replicator_status *status = &server->status;
	uint64_t limit_us = (uint64_t)server->config->election_timeout_max_ms * 1000u;
	unsigned n = status->voter ? 1 : 0;
	for (unsigned k = 0; k < status->n_peers; k++) {
		const struct replicator_peer_status *peer = &status->peers[k];
		n += peer->voter && (status->role == SERVER_LEADER ? peer->silent_us <= limit_us : peer->connected);
	}
	return n;
}

static void write_status(const struct server *server, const struct server_told *told)
{
	unsigned long long term = told->term, commit = told->commit;
	unsigned quorum = told->n_voters / 2 + 1;
	if (told->blank)
		service_notify_status("waits for the cluster to be founded; %u members configured",
				      server->config->n_members);
	else if (told->role == SERVER_LEADER)
		service_notify_status("leader of %u, term %llu, commit %llu, quorum %u: %u answer", told->n_voters,
				      term, commit, quorum, told->n_answering);
	else if (told->leader != 0)
		service_notify_status("%s of %u, term %llu, commit %llu, quorum %u, leader %llu",
				      server_role_name(told->role), told->n_voters, term, commit, quorum,
				      (unsigned long long)told->leader);
	else
		service_notify_status("%s of %u, term %llu, commit %llu, no leader, quorum %u: %u connected",
				      server_role_name(told->role), told->n_voters, term, commit, quorum,
				      told->n_answering);
}

/* Later changes come with the timer: one line a second at most, and none while nothing changes. */
static void tell_later(struct server *server, uint64_t wait_us)
{
	struct timeval wait = {.tv_sec = (time_t)(wait_us / 1000000u), .tv_usec = (suseconds_t)(wait_us % 1000000u)};
	if (server->status_event != NULL && !event_pending(server->status_event, EV_TIMEOUT, NULL))
		(void)event_add(server->status_event, &wait); /* an event that was added once can be added again */
}

void server_tell_status(struct server *server)
{
	const struct replicator_status *status = &server->status;
	struct server_told *told = &server->told;
	struct server_told now = {
		.role = status->role,
		.blank = status->blank,
		.n_voters = status->n_voters,
		.n_answering = status->role == SERVER_LEADER || status->leader == 0 ? count_answering(server) : 0,
		.leader = status->leader,
		.term = status->term,
		.commit = status->commit,
		.at_us = told->at_us};
	if (memcmp(&now, told, sizeof now) == 0)
		return;
	bool at_once = now.role != told->role || now.leader != told->leader || now.blank != told->blank;
	now.at_us = now_us();
	uint64_t due_us = told->at_us + STATUS_INTERVAL_US;
	if (!at_once && now.at_us < due_us) {
		tell_later(server, due_us - now.at_us);
		return;
	}
	*told = now;
	write_status(server, &now);
}

/* Long without a leader: once, with what is missing. */
void server_watch_leader(struct server *server)
{
	const struct replicator_status *status = &server->status;
	struct service_fields fields = server_log_fields(server);
	if (status->leader != 0 || status->blank || server->stopping) {
		server->leaderless_us = 0;
		server->leaderless_told = false;
		return;
	}
	uint64_t now = now_us();
	if (server->leaderless_us == 0)
		server->leaderless_us = now;
	if (server->leaderless_told || now - server->leaderless_us < NO_LEADER_US)
		return;
	server->leaderless_told = true;
	service_log_fields(4, "no-leader", &fields,
			   "no leader for %u s: %u of %u voters are connected, this one included; %u are needed",
			   NO_LEADER_US / 1000000u, count_answering(server), status->n_voters,
			   status->n_voters / 2 + 1);
}

/* The watchdog ----------------------------------------------------------------------------------------- */

void server_feed_watchdog(struct server *server)
{
	struct service_fields fields = server_log_fields(server);
	uint64_t age_us = replicator_oldest_write_age_us(server->replicator);
	if (age_us < SERVER_DISK_ALIVE_US) {
		server->watchdog_withheld = false;
		service_watchdog_ping();
		return;
	}
	if (!server->watchdog_withheld)
		service_log_fields(3, "watchdog-withheld", &fields,
				   "the disk has not answered for %llu ms: the watchdog is not fed until it does",
				   (unsigned long long)(age_us / 1000u));
	server->watchdog_withheld = true;
}

/* Reloading -------------------------------------------------------------------------------------------- */

/* Keys that a running member takes over. Of all others it only says that they have changed. */
static const char *const reloadable[] = {"[raft] log_level", "[raft] snapshot_log_size", "[raft] snapshot_log_percent"};

struct reload {
	const struct server *server;
	struct server_text *text;
	unsigned n_now, n_later;
	char later[SERVER_TEXT_MAX];
};

static void add_text(char *text, size_t size, const char *before, const char *what)
{
	size_t used = strlen(text);
	(void)snprintf(text + used, size - used, "%s%s", before, what); /* cut when too long */
}

static void note_mistake(void *arg, const char *line)
{
	struct reload *reload = arg;
	service_log(3, "config", "%s", line);
	add_text(reload->text->text, sizeof reload->text->text, reload->text->text[0] != '\0' ? "\n" : "", line);
}

/* raft-bridge reads its own; and where the other members are, the log says. */
static bool is_ours(const struct server *server, const char *name)
{
	char own[64];
	(void)snprintf(own, sizeof own, "[member %llu]", (unsigned long long)server->member->id);
	if (strncmp(name, "[member ", strlen("[member ")) == 0)
		return strncmp(name, own, strlen(own)) == 0;
	return strncmp(name, "[bridge]", strlen("[bridge]")) != 0;
}

static void note_difference(void *arg, const char *name)
{
	struct reload *reload = arg;
	bool now = false;
	if (!is_ours(reload->server, name))
		return;
	for (size_t k = 0; k < sizeof reloadable / sizeof reloadable[0]; k++)
		now |= strcmp(name, reloadable[k]) == 0;
	if (now)
		add_text(reload->text->text, sizeof reload->text->text, reload->n_now++ > 0 ? ", " : "reloaded ", name);
	else
		add_text(reload->later, sizeof reload->later, reload->n_later++ > 0 ? ", " : "", name);
}

static void take_over(struct server *server, const struct config *config)
{
	server->config->log_level = config->log_level;
	server->config->snapshot_log_size = config->snapshot_log_size;
	server->config->snapshot_log_percent = config->snapshot_log_percent;
	service_set_level((int)config->log_level);
	replicator_set_snapshot_limits(server->replicator, config->snapshot_log_size, config->snapshot_log_percent);
}

/* The new configuration is good: takes over what can be, and names the rest. */
static void apply(struct server *server, const struct config *config, struct reload *reload)
{
	struct service_fields fields = server_log_fields(server);
	struct server_text *text = reload->text;
	config_compare(server->config, config, note_difference, reload);
	take_over(server, config);
	if (reload->n_now == 0 && reload->n_later == 0)
		add_text(text->text, sizeof text->text, "", "nothing has changed");
	if (text->text[0] != '\0')
		service_log_fields(5, "reloaded", &fields, "%s: %s", server->config_path, text->text);
	if (reload->n_later == 0)
		return;
	service_log_fields(4, "restart-needed", &fields, "%s: takes effect when this member is started again: %s",
			   server->config_path, reload->later);
	add_text(text->text, sizeof text->text, text->text[0] != '\0' ? "\n" : "", "needs a restart: ");
	add_text(text->text, sizeof text->text, "", reload->later);
}

bool server_reload(struct server *server, struct server_text *ret_text)
{
	struct config *config = calloc(1, sizeof *config);
	struct reload reload = {.server = server, .text = ret_text};
	ret_text->text[0] = '\0';
	service_notify_reloading();
	bool good = config != NULL && config_read(server->config_path, config, note_mistake, &reload) == 0;
	if (good)
		apply(server, config, &reload);
	else
		service_log(3, "reload-failed", "%s has mistakes: this member goes on with what it has",
			    server->config_path);
	service_notify_ready();
	free(config);
	return good;
}
