/*
 * Links to the members' client endpoints: one DEALER each, frames of kv/request.h out, single replies in. What this
 * must not know: what is asked, who leads, retries.
 *
 * A request goes out as a frame of its own; the reply is matched by the id that ctl_links_send returned. Waiting is
 * done with poll(2) on ZeroMQ's edge-triggered descriptors, after asking each socket whether something is there.
 */
#ifndef RAFTCTL_LINK_H
#define RAFTCTL_LINK_H

#include "daemon/config/config.h"
#include "daemon/transport/zmq_socket.h"
#include "kv/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ctl_link {
	const struct config_member *member;
	struct zmq_socket *socket;
	bool up;
	struct kv_frame_reader replies; /* of the last frame received; left == 0: all taken */
};

struct ctl_links {
	struct zmq_context *context;
	uint64_t cluster;
	uint64_t next_id;
	unsigned n;
	struct ctl_link links[RAFT_MEMBERS_MAX];
	struct kv_frame frame; /* what is being sent */
};

/* Connects to all members of the configuration, or only to `id` if that is not 0. Prints why it could not. Returns 0 or
 * negative errno; after either ctl_links_close is due. */
int ctl_links_open(const struct config *config, uint64_t id, struct ctl_links *ret_links)
	__attribute__((warn_unused_result));
void ctl_links_close(struct ctl_links *links);

/* Sends one request to link k. Returns its id, or 0 when the link is not up or memory is short: nothing was sent. */
uint64_t ctl_links_send(struct ctl_links *links, unsigned k, uint8_t type, const uint8_t *body, uint32_t size);

enum ctl_news {
	CTL_NEWS_NONE,	/* the deadline has come */
	CTL_NEWS_REPLY, /* id, answer: valid until the next ctl_links_wait */
	CTL_NEWS_UP,
	CTL_NEWS_DOWN, /* what was sent on this link may or may not have arrived */
};
struct ctl_event {
	enum ctl_news news;
	unsigned link;
	uint64_t id;
	struct kv_answer_body answer;
};

/* The next thing that happens on any link, at the latest at deadline_us of ctl_now_us. A frame that cannot be
 * understood is reported on stderr and skipped. 0, or negative errno: the sockets cannot be used. */
int ctl_links_wait(struct ctl_links *links, uint64_t deadline_us, struct ctl_event *ret_event)
	__attribute__((warn_unused_result));

uint64_t ctl_now_us(void); /* monotonic */

#endif
