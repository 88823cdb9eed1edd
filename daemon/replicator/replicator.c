/*
 * The embeddable replicator in a real process: configuration, descriptors, clocks and randomness around a replica.
 * What a member does is in replica.c; here is only when and with what.
 */
#include "replicator.h"

#include "daemon/assert.h"
#include "daemon/config/config.h"
#include "replica.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

_Static_assert(CONFIG_ENDPOINT_MAX <= RAFT_ENDPOINT_MAX && RAFT_ENDPOINT_MAX <= REPLICATOR_ENDPOINT_MAX &&
		       RAFT_ENDPOINT_MAX <= TRANSPORT_ENDPOINT_MAX,
	       "an endpoint of the file fits everywhere");

/* Entries on their way to one follower; uncommitted entries of a leader. Reasons: one batch fits a frame and a flush; the
 * window keeps a link of 10 Gbit/s and 5 ms busy; uncommitted data bound a leader's memory when a quorum is slow. */
#define BATCH_BYTES_MAX (512u * 1024u)
#define WINDOW_BYTES_MAX (8u * 1024u * 1024u)
#define UNCOMMITTED_BYTES_MAX (64u * 1024u * 1024u)

/* The table as it was in the first library of this name. */
#define MACHINE_SIZE_MIN (offsetof(struct replicator_machine, state_hash) + sizeof(void *))

struct replicator {
	struct replica *replica;
	struct replicator_machine machine; /* as much of it as the program knows; the rest is NULL */
	int epoll_fd;
	int timer_fd;
	uint64_t armed_us; /* when the timer fires, or did, and is readable since; UINT64_MAX: not armed */
};

const char *replicator_result_name(int result)
{
	switch ((enum replicator_result)result) {
	case REPLICATOR_OK:
		return "ok";
	case REPLICATOR_E_NOT_LEADER:
		return "not the leader";
	case REPLICATOR_E_BUSY:
		return "busy";
	case REPLICATOR_E_NOT_READY:
		return "not ready";
	case REPLICATOR_E_DISK_FULL:
		return "disk full";
	case REPLICATOR_E_UNKNOWN:
		return "outcome unknown";
	case REPLICATOR_E_LOST:
		return "leadership lost";
	case REPLICATOR_E_TARGET:
		return "no such voter";
	case REPLICATOR_E_CONFIG:
		return "wrong configuration";
	case REPLICATOR_E_DAMAGED:
		return "damaged data";
	case REPLICATOR_E_CLUSTER:
		return "wrong cluster";
	case REPLICATOR_E_PENDING:
		return "another change is under way";
	case REPLICATOR_E_MEMBERSHIP:
		return "impossible change of the membership";
	case REPLICATOR_E_STALE:
		return "the membership has changed meanwhile";
	case REPLICATOR_E_REMOVED:
		return "removed from the cluster";
	case REPLICATOR_E_DIVERGED:
		return "diverged state";
	case REPLICATOR_E_LEVEL:
		return "a newer version is needed";
	}
	return result < 0 ? strerror(-result) : "unknown result";
}

/* What the members' timeouts, and above all leases, are measured with: CLOCK_BOOTTIME, which goes on while the machine sleeps. A
 * leader that was suspended must find its lease expired when it wakes up; CLOCK_MONOTONIC would not have noticed. Neither
 * sees that a hypervisor stopped the whole machine and its clocks with it. */
static uint64_t clock_us(clockid_t clock)
{
	struct timespec now;
	int r = clock_gettime(clock, &now);
	raft_assert(r == 0);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static uint64_t random_u64(void)
{
	uint64_t value = 0;
	while (value == 0) {
		ssize_t n = getrandom(&value, sizeof value, 0);
		raft_assert(n == (ssize_t)sizeof value || (n < 0 && errno == EINTR));
	}
	return value;
}

/* Collects the mistakes of the configuration, one a line. */
struct report {
	char *message;
	size_t used;
};

static void report_line(void *arg, const char *line)
{
	struct report *report = arg;
	size_t room = REPLICATOR_MESSAGE_MAX - report->used;
	int n = snprintf(report->message + report->used, room, "%s%s", report->used > 0 ? "\n" : "", line);
	if (n > 0)
		report->used += (size_t)n < room ? (size_t)n : room - 1;
}

static void fill_options(const struct config *config, uint64_t id, struct replica_options *ret)
{
	uint64_t cluster = XXH3_64bits(config->cluster_name, strlen(config->cluster_name));
	memset(ret, 0, sizeof *ret);
	ret->cluster = cluster != 0 ? cluster : 1;
	ret->seed = random_u64();
	for (unsigned k = 0; k < config->n_members; k++) {
		const struct config_member *from = &config->members[k];
		struct raft_config_member *to = &ret->founders.members[ret->founders.n_members++];
		*to = (struct raft_config_member){.id = from->id, .role = RAFT_MEMBER_JOINING};
		memcpy(to->peer_endpoint, from->peer, strlen(from->peer) + 1);
		memcpy(to->client_endpoint, from->client, strlen(from->client) + 1);
	}
	ret->snapshot_log_bytes = config->snapshot_log_size;
	ret->snapshot_log_percent = config->snapshot_log_percent;
	ret->heal = true;
	ret->raft = (struct raft_options){
		.id = id,
		.heartbeat_us = (uint64_t)config->heartbeat_ms * 1000u,
		.election_timeout_min_us = (uint64_t)config->election_timeout_min_ms * 1000u,
		.election_timeout_max_us = (uint64_t)config->election_timeout_max_ms * 1000u,
		.batch_bytes_max = BATCH_BYTES_MAX,
		.window_bytes_max = WINDOW_BYTES_MAX,
		.uncommitted_bytes_max = UNCOMMITTED_BYTES_MAX,
	};
	if (config->read_mode == CONFIG_READ_LEASE) {
		ret->raft.lease = true;
		ret->raft.promise_us = ret->raft.election_timeout_min_us;
	}
	ret->raft.clock_drift_ppm = config->clock_drift_percent * 10000u;
	ret->storage = (struct storage_options){
		.cluster_id = ret->cluster,
		.member_id = id,
		.incarnation = random_u64(),
		.segment_size = config->segment_size,
		.cache_bytes_max = config->log_cache_size,
	};
}

static int open_disk(const struct config_member *member, struct disk **ret_disk, char *message)
{
	int r = disk_posix_open(member->data, ret_disk);
	if (r == -EWOULDBLOCK)
		(void)snprintf(message, REPLICATOR_MESSAGE_MAX,
			       "%s is in use by another process: is member %llu running already?", member->data,
			       (unsigned long long)member->id);
	else if (r == -ENOENT)
		(void)snprintf(
			message, REPLICATOR_MESSAGE_MAX,
			"the data directory %s does not exist: create it, owned by the user that runs this member",
			member->data);
	else if (r < 0)
		(void)snprintf(message, REPLICATOR_MESSAGE_MAX, "cannot open the data directory %s: %s", member->data,
			       strerror(-r));
	return r;
}

static int open_transport(const struct config *config, uint64_t id, struct transport **ret_transport, char *message)
{
	struct transport_peer peers[RAFT_MEMBERS_MAX];
	unsigned n = 0;
	for (unsigned k = 0; k < config->n_members; k++)
		if (config->members[k].id != id)
			peers[n++] = (struct transport_peer){config->members[k].id, config->members[k].peer};
	return zmq_transport_open(config_find_member(config, id)->peer, peers, n, ret_transport, message);
}

static int watch(int epoll_fd, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_descriptors(struct replicator *replicator, int transport_fd)
{
	replicator->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (replicator->epoll_fd < 0)
		return -errno;
	replicator->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (replicator->timer_fd < 0)
		return -errno;
	int r = watch(replicator->epoll_fd, replicator->timer_fd);
	if (r == 0)
		r = watch(replicator->epoll_fd, transport_fd);
	if (r == 0)
		r = watch(replicator->epoll_fd, storage_fd(replica_storage(replicator->replica)));
	return r;
}

/* Setting a timer is dear, above all on a virtual machine. One that fires too early only costs a turn, so it is moved only
 * when that matters; and one that has fired stays readable as long as each turn leaves work for the next. */
static int arm_timer(struct replicator *replicator, uint64_t deadline_us, uint64_t now_us)
{
	bool fired = replicator->armed_us <= now_us;
	if (fired ? deadline_us <= now_us : deadline_us >= replicator->armed_us)
		return 0;
	struct itimerspec when = {0};
	if (deadline_us == 0)
		deadline_us = 1; /* in the past: fires at once; zero would disarm */
	when.it_value.tv_sec = (time_t)(deadline_us / 1000000u);
	when.it_value.tv_nsec = (long)(deadline_us % 1000000u) * 1000;
	if (timerfd_settime(replicator->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) < 0)
		return -errno;
	replicator->armed_us = deadline_us; /* and what it had fired before is forgotten */
	return 0;
}

/* A program that was compiled with an older header has a smaller table. One compiled with a newer header may have
 * functions that this library does not know: it must not be used, since they would be expected to be called. */
static int copy_machine(struct replicator *replicator, const struct replicator_machine *machine, char *message)
{
	struct replicator_machine *copy = &replicator->machine;
	bool known = machine->size >= MACHINE_SIZE_MIN && machine->size <= sizeof *copy;
	if (known)
		memcpy(copy, machine, machine->size);
	if (known && copy->apply && copy->dropped && copy->readable && copy->unreadable && copy->log)
		return 0;
	(void)snprintf(message, REPLICATOR_MESSAGE_MAX,
		       known ? "the state machine lacks one of the functions that every machine has"
			     : "the state machine's size is none of this library: set it to sizeof(struct "
			       "replicator_machine), and use a library that is not older than the header");
	return -EINVAL;
}

/* A start that takes long, and must be seen to go on. */
struct start {
	const struct replicator_machine *machine;
	void *arg;
	uint64_t read_bytes, bytes_max;
};

static void count_bytes(void *arg, const char *name, uint64_t size)
{
	struct start *start = arg;
	(void)name;
	if (size != DISK_NO_FILE)
		start->bytes_max += 2 * size; /* once to verify it, once to take it in */
}

static void on_read(void *arg, size_t bytes)
{
	struct start *start = arg;
	start->read_bytes += bytes;
	start->machine->starting(start->arg, start->read_bytes, start->bytes_max);
}

static void watch_start(struct disk *disk, struct start *start)
{
	if (start->machine->starting != NULL && disk->ops->list(disk, count_bytes, start) == 0)
		disk_posix_watch_reads(disk, on_read, start);
}

static int open_replica(struct replicator *replicator, const struct config *config, uint64_t id, void *arg,
			char *message)
{
	struct replica_options options;
	struct disk *disk = NULL;
	struct transport *transport = NULL;

	fill_options(config, id, &options);
	int r = open_disk(config_find_member(config, id), &disk, message);
	if (r < 0)
		return r;
	r = open_transport(config, id, &transport, message);
	if (r < 0) {
		disk->ops->close(disk);
		return r;
	}
	int transport_fd = transport->ops->fd(transport);
	struct start start = {.machine = &replicator->machine, .arg = arg};
	watch_start(disk, &start);
	r = replica_open(&options, disk, transport, &replicator->machine, arg, clock_us(CLOCK_BOOTTIME),
			 &replicator->replica, message);
	if (r != 0)
		return r;
	disk_posix_watch_reads(disk, NULL, NULL);
	r = open_descriptors(replicator, transport_fd);
	if (r == 0)
		r = arm_timer(replicator, 0, 0);
	if (r < 0)
		(void)snprintf(message, REPLICATOR_MESSAGE_MAX, "cannot set up descriptors: %s", strerror(-r));
	return r;
}

int replicator_new(uint64_t id, const char *config_path, const struct replicator_machine *machine, void *arg,
		   struct replicator **ret_replicator, char *message)
{
	struct report report = {message, 0};
	message[0] = '\0';
	struct config *config = calloc(1, sizeof *config);
	struct replicator *replicator = calloc(1, sizeof *replicator);
	int r = -ENOMEM;

	if (config == NULL || replicator == NULL)
		goto out;
	replicator->epoll_fd = replicator->timer_fd = -1;
	replicator->armed_us = UINT64_MAX;
	r = copy_machine(replicator, machine, message);
	if (r != 0)
		goto out;
	r = REPLICATOR_E_CONFIG;
	if (config_read(config_path, config, report_line, &report) != 0)
		goto out;
	if (config_find_member(config, id) == NULL) {
		(void)snprintf(message, REPLICATOR_MESSAGE_MAX, "%s: there is no section [member %llu]", config_path,
			       (unsigned long long)id);
		goto out;
	}
	r = open_replica(replicator, config, id, arg, message);
out:
	free(config);
	if (r != 0) {
		replicator_free(replicator);
		if (message[0] == '\0')
			(void)snprintf(message, REPLICATOR_MESSAGE_MAX, "%s", replicator_result_name(r));
		return r;
	}
	*ret_replicator = replicator;
	return 0;
}

struct replicator *replicator_free(struct replicator *replicator)
{
	if (replicator == NULL)
		return NULL;
	if (replicator->epoll_fd >= 0)
		(void)close(replicator->epoll_fd); /* nothing was written to it */
	if (replicator->timer_fd >= 0)
		(void)close(replicator->timer_fd);
	if (replicator->replica != NULL)
		replica_end_promises(replicator->replica, clock_us(CLOCK_BOOTTIME));
	replica_free(replicator->replica);
	free(replicator);
	return NULL;
}

int replicator_fd(const struct replicator *replicator)
{
	return replicator->epoll_fd;
}

int replicator_process(struct replicator *replicator)
{
	uint64_t now = clock_us(CLOCK_BOOTTIME);
	int r = replica_process(replicator->replica, now, clock_us(CLOCK_REALTIME) / 1000u);
	if (r != 0)
		return r;
	replica_settle(replicator->replica, clock_us(CLOCK_BOOTTIME));
	return arm_timer(replicator, replica_deadline_us(replicator->replica), now);
}

int replicator_propose(struct replicator *replicator, const struct replicator_command *commands, uint32_t n,
		       uint64_t first_ticket)
{
	return replica_propose(replicator->replica, commands, n, first_ticket, clock_us(CLOCK_BOOTTIME),
			       clock_us(CLOCK_REALTIME) / 1000u);
}

int replicator_read(struct replicator *replicator, uint64_t ticket)
{
	return replica_read(replicator->replica, ticket, clock_us(CLOCK_BOOTTIME));
}

int replicator_transfer(struct replicator *replicator, uint64_t target)
{
	return replica_transfer(replicator->replica, target, clock_us(CLOCK_BOOTTIME));
}

int replicator_change(struct replicator *replicator, const struct replicator_change *change, uint64_t *ret_index)
{
	return replica_change(replicator->replica, change, clock_us(CLOCK_BOOTTIME), clock_us(CLOCK_REALTIME) / 1000u,
			      ret_index);
}

int replicator_bootstrap(struct replicator *replicator)
{
	return replica_bootstrap(replicator->replica, clock_us(CLOCK_BOOTTIME), clock_us(CLOCK_REALTIME) / 1000u);
}

int replicator_snapshot(struct replicator *replicator)
{
	int r = replica_snapshot(replicator->replica);
	return r == 0 ? arm_timer(replicator, 0, 0) : r;
}

void replicator_set_snapshot_limits(struct replicator *replicator, uint64_t log_bytes, uint32_t log_percent)
{
	replica_set_snapshot_limits(replicator->replica, log_bytes, log_percent);
}

void replicator_get_membership(const struct replicator *replicator, struct replicator_membership *ret_membership)
{
	replica_get_membership(replicator->replica, ret_membership);
}

/* What this library knows, into the caller's struct, which may be older or newer. */
static void copy_known(void *to, size_t to_size, const void *from, size_t from_size)
{
	size_t known = to_size < from_size ? to_size : from_size;
	memcpy(to, from, known);
	memset((char *)to + known, 0, to_size - known);
}

void replicator_get_status(const struct replicator *replicator, struct replicator_status *ret_status, size_t size)
{
	struct replicator_status status;
	replica_get_status(replicator->replica, &status);
	copy_known(ret_status, size, &status, sizeof status);
}

unsigned replicator_get_beats(const struct replicator *replicator, uint64_t after, struct replicator_beat *ret_beats,
			      unsigned max)
{
	return replica_get_beats(replicator->replica, clock_us(CLOCK_BOOTTIME), after, ret_beats, max);
}

void replicator_get_metrics(const struct replicator *replicator, struct replicator_metrics *ret_metrics, size_t size)
{
	struct replicator_metrics metrics;
	replica_get_metrics(replicator->replica, clock_us(CLOCK_BOOTTIME), &metrics);
	copy_known(ret_metrics, size, &metrics, sizeof metrics);
}

int replicator_read_log(struct replicator *replicator, uint64_t first_index, struct raft_entry *ret_entries,
			uint32_t max_entries, uint64_t bytes_max, uint32_t *ret_n)
{
	return replica_read_log(replicator->replica, first_index, ret_entries, max_entries, bytes_max, ret_n);
}

uint64_t replicator_oldest_write_age_us(const struct replicator *replicator)
{
	return storage_oldest_write_age_us(replica_storage(replicator->replica));
}
