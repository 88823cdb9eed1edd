/*
 * One non-blocking ZeroMQ socket whose edge-triggered descriptor cannot be used wrongly.
 *
 * ZMQ_FD signals changes, not states: a message may be waiting while the descriptor stays silent, and any
 * call on the socket may consume the signal. So: every use goes through these functions, each re-reads
 * ZMQ_EVENTS, and before sleeping the owner asks zmq_socket_pending(). zmq_socket.c is the only file that includes
 * zmq.h; zmq_transport.c, raftd's client endpoint and raft-bridge use this header.
 *
 * ZeroMQ's own heartbeats are never switched on: libzmq 4.3.4 aborts (see README.md).
 * A socket belongs to one thread.
 */
#ifndef RAFT_KV_ZMQ_SOCKET_H
#define RAFT_KV_ZMQ_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct zmq_context; /* one per process; one I/O thread */
struct zmq_socket;

enum zmq_socket_kind {
	ZMQ_SOCKET_ROUTER, /* binds; ZMQ_ROUTER_MANDATORY; receives and sends with the peer's identity */
	ZMQ_SOCKET_DEALER, /* connects */
};

struct zmq_socket_options {
	enum zmq_socket_kind kind;
	int send_queue_frames;	  /* ZMQ_SNDHWM per connection */
	int receive_queue_frames; /* ZMQ_RCVHWM per connection */
	int64_t frame_size_max;	  /* ZMQ_MAXMSGSIZE */
	bool immediate;		  /* queue only to established connections */
	bool monitor;		  /* DEALER only: report when the connection is ready for use, and when it is lost */
};

#define ZMQ_IDENTITY_MAX 16u
struct zmq_identity {
	uint8_t size; /* ROUTER: of the sender or receiver; DEALER: 0 */
	uint8_t bytes[ZMQ_IDENTITY_MAX];
};

int zmq_context_new(struct zmq_context **ret) __attribute__((warn_unused_result));
struct zmq_context *zmq_context_free(struct zmq_context *context); /* after all its sockets; NULL is fine */

/* endpoint (tcp:// or ipc:///) is bound by a ROUTER, connected by a DEALER. 0 or negative errno (EADDRINUSE, EINVAL …).
 * A stale ipc path is replaced; one that is served is -EADDRINUSE, one that is not a socket -EEXIST, one over 107 bytes
 * -ENAMETOOLONG. */
int zmq_socket_open(struct zmq_context *context, const struct zmq_socket_options *options, const char *endpoint,
		    struct zmq_socket **ret) __attribute__((warn_unused_result));
struct zmq_socket *zmq_socket_free(struct zmq_socket *socket);

/* Descriptors to watch for reading: the socket's, and the monitor's or -1. They are edge-triggered. */
int zmq_socket_fd(const struct zmq_socket *socket);
int zmq_socket_monitor_fd(const struct zmq_socket *socket);

/* True when a frame or a monitor event can be taken now. Ask after the last use in a loop turn, before sleeping. */
bool zmq_socket_pending(struct zmq_socket *socket);

/* Receives one message of exactly one payload frame; others are drained, counted (zmq_socket_bad_messages), skipped. 1:
 * *ret_data, *ret_len are valid until the next receive on this socket; 0: nothing now, or enough skipped for one call
 * (then zmq_socket_pending is true). Negative errno: socket unusable. */
int zmq_socket_receive(struct zmq_socket *socket, struct zmq_identity *ret_from, const uint8_t **ret_data,
		       size_t *ret_len);

/* Sends one frame, copying data. 0; -EAGAIN: queue full, not connected or no memory, dropped; -EHOSTUNREACH: that identity
 * is gone. */
int zmq_socket_send(struct zmq_socket *socket, const struct zmq_identity *to, const uint8_t *data, size_t len);

/* The same without a copy: fill the returned buffer (len bytes), then send it. NULL when memory is short. A second prepare
 * before send drops the first buffer. */
uint8_t *zmq_socket_prepare(struct zmq_socket *socket, size_t len);
int zmq_socket_send_prepared(struct zmq_socket *socket, const struct zmq_identity *to);
/* Moves the prepared buffer of holder, where it lies, to another socket: for whoever fills before choosing. */
void zmq_socket_move_prepared(struct zmq_socket *holder, struct zmq_socket *socket);

enum zmq_socket_link { ZMQ_LINK_NONE, ZMQ_LINK_UP, ZMQ_LINK_DOWN };
/* The next connection event from the monitor, ZMQ_LINK_NONE when there is none. A link that was lost and that libzmq gave
 * up for good (README.md, "Links") is opened anew by this or by a send that finds no connection. */
enum zmq_socket_link zmq_socket_link_event(struct zmq_socket *socket);

uint64_t zmq_socket_bad_messages(const struct zmq_socket *socket);

#endif
