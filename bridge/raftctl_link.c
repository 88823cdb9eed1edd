/*
 * Links to the members' client endpoints; see raftctl_link.h.
 */
#include "raftctl_link.h"

#include "raftctl.h"

#include "daemon/assert.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SEND_QUEUE_FRAMES 64
#define RECEIVE_QUEUE_FRAMES 64

uint64_t ctl_now_us(void)
{
	struct timespec now;
	int r = clock_gettime(CLOCK_MONOTONIC, &now);
	raft_assert(r == 0);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static int open_link(struct ctl_links *links, const struct config_member *member)
{
	static const struct zmq_socket_options options = {
		.kind = ZMQ_SOCKET_DEALER,
		.send_queue_frames = SEND_QUEUE_FRAMES,
		.receive_queue_frames = RECEIVE_QUEUE_FRAMES,
		.frame_size_max = KV_FRAME_SIZE_MAX,
		.immediate = true,
		.monitor = true,
	};
	raft_assert(links->n < RAFT_MEMBERS_MAX);
	struct ctl_link *link = &links->links[links->n];
	*link = (struct ctl_link){.member = member};
	int r = zmq_socket_open(links->context, &options, member->client, &link->socket);
	if (r < 0) {
		(void)ctl_fail(CTL_FAILED, "cannot connect to member %llu at %s: %s", (unsigned long long)member->id,
			       member->client, strerror(-r));
		return r;
	}
	links->n++;
	return 0;
}

int ctl_links_open(const struct config *config, uint64_t id, struct ctl_links *ret_links)
{
	*ret_links = (struct ctl_links){.cluster = kv_cluster_id(config->cluster_name), .next_id = 1};
	int r = zmq_context_new(&ret_links->context);
	if (r < 0) {
		(void)ctl_fail(CTL_FAILED, "cannot start ZeroMQ: %s", strerror(-r));
		return r;
	}
	for (unsigned k = 0; k < config->n_members; k++) {
		if (id != 0 && config->members[k].id != id)
			continue;
		r = open_link(ret_links, &config->members[k]);
		if (r < 0)
			return r;
	}
	raft_assert(ret_links->n > 0);
	return 0;
}

void ctl_links_close(struct ctl_links *links)
{
	for (unsigned k = 0; k < links->n; k++)
		zmq_socket_free(links->links[k].socket);
	zmq_context_free(links->context);
	kv_frame_free(&links->frame);
	*links = (struct ctl_links){0};
}

uint64_t ctl_links_send(struct ctl_links *links, unsigned k, uint8_t type, const uint8_t *body, uint32_t size)
{
	raft_assert(k < links->n);
	struct ctl_link *link = &links->links[k];
	if (!link->up)
		return 0;
	uint64_t id = links->next_id++;
	kv_frame_begin(&links->frame);
	uint8_t *room = kv_frame_add(&links->frame, id, type, size);
	if (room == NULL)
		return 0;
	if (size > 0)
		memcpy(room, body, size);
	kv_frame_finish(&links->frame, KV_FRAME_REQUESTS, links->cluster);
	static const struct zmq_identity nobody = {0};
	return zmq_socket_send(link->socket, &nobody, links->frame.buf, links->frame.len) == 0 ? id : 0;
}

/* The next reply of the frame at hand. True: *ret_event is it. */
static bool take_reply(struct ctl_link *link, struct ctl_event *ret_event)
{
	struct kv_frame_item item;
	while (kv_frame_next(&link->replies, &item)) {
		if (!kv_reply_decode(item.body, item.size, &ret_event->answer))
			continue; /* answers no question that was asked: the deadline says so */
		ret_event->news = CTL_NEWS_REPLY;
		ret_event->id = item.id;
		return true;
	}
	return false;
}

/* Takes frames until one holds a reply. 1: *ret_event is it, 0: none, negative errno. */
static int take_frames(struct ctl_links *links, struct ctl_link *link, struct ctl_event *ret_event)
{
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;
	for (;;) {
		if (take_reply(link, ret_event))
			return 1;
		int r = zmq_socket_receive(link->socket, &from, &data, &len);
		if (r <= 0)
			return r;
		struct kv_frame_reader reader;
		r = kv_frame_read(data, len, KV_FRAME_REPLIES, links->cluster, &reader);
		if (r == KV_FRAME_OK)
			link->replies = reader;
		else
			(void)ctl_fail(CTL_FAILED,
				       "member %llu at %s answered in a way that raftctl %s does not "
				       "understand: %s",
				       (unsigned long long)link->member->id, link->member->client, RAFT_KV_VERSION,
				       kv_frame_result_name(r));
	}
}

/* Looks at link k without waiting. 1: *ret_event, 0: nothing, negative errno. */
static int look(struct ctl_links *links, unsigned k, struct ctl_event *ret_event)
{
	struct ctl_link *link = &links->links[k];
	*ret_event = (struct ctl_event){.link = k};
	int r = take_frames(links, link, ret_event);
	if (r != 0)
		return r;
	switch (zmq_socket_link_event(link->socket)) {
	case ZMQ_LINK_UP:
		link->up = true;
		ret_event->news = CTL_NEWS_UP;
		return 1;
	case ZMQ_LINK_DOWN:
		link->up = false;
		ret_event->news = CTL_NEWS_DOWN;
		return 1;
	case ZMQ_LINK_NONE:
		break;
	}
	return 0;
}

/* Sleeps until a descriptor stirs or the deadline comes. 0 or negative errno. */
static int sleep_until(const struct ctl_links *links, uint64_t deadline_us)
{
	struct pollfd fds[2 * RAFT_MEMBERS_MAX];
	nfds_t n = 0;
	for (unsigned k = 0; k < links->n; k++) {
		fds[n++] = (struct pollfd){.fd = zmq_socket_fd(links->links[k].socket), .events = POLLIN};
		fds[n++] = (struct pollfd){.fd = zmq_socket_monitor_fd(links->links[k].socket), .events = POLLIN};
	}
	uint64_t now = ctl_now_us();
	uint64_t left = deadline_us > now ? deadline_us - now : 0;
	struct timespec timeout = {.tv_sec = (time_t)(left / 1000000u), .tv_nsec = (long)(left % 1000000u * 1000u)};
	if (ppoll(fds, n, &timeout, NULL) < 0 && errno != EINTR)
		return -errno;
	return 0;
}

int ctl_links_wait(struct ctl_links *links, uint64_t deadline_us, struct ctl_event *ret_event)
{
	for (;;) {
		bool pending = false;
		for (unsigned k = 0; k < links->n; k++) {
			int r = look(links, k, ret_event);
			if (r != 0)
				return r < 0 ? r : 0;
		}
		for (unsigned k = 0; k < links->n; k++)
			pending = pending || zmq_socket_pending(links->links[k].socket);
		if (pending)
			continue; /* looking at one socket may have brought news to another */
		if (ctl_now_us() >= deadline_us)
			break;
		int r = sleep_until(links, deadline_us);
		if (r < 0)
			return r;
	}
	*ret_event = (struct ctl_event){.news = CTL_NEWS_NONE};
	return 0;
}
