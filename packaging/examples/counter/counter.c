/*
 * A replicated counter: what a program does to have its state on several machines with libreplicator.
 *
 *     cc counter.c -o counter $(pkg-config --cflags --libs libreplicator)
 *     ./counter 1 counter.conf        # one process for each [member N] of counter.conf; its data directory must exist
 *
 * Type a number to add it, or just Enter to read the total: any number of times, on the member that leads.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <replicator/replicator.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t total; /* the state machine: equal on all members that have applied the same commands */

/* Committed: every member is told the same commands in the same order. ticket: this member proposed it, and waits. */
static void apply(void *arg, uint64_t index, uint64_t time_ms, const uint8_t *data, uint32_t size, uint64_t ticket)
{
	int64_t amount;
	(void)arg, (void)time_ms;
	if (size == sizeof amount) { /* anything else changes nothing, on all members alike */
		memcpy(&amount, data, sizeof amount);
		total = (int64_t)((uint64_t)total + (uint64_t)amount); /* wraps around instead of overflowing */
	}
	if (ticket != 0)
		printf("ok %" PRIu64 " %" PRId64 "\n", index, total);
}

static void dropped(void *arg, uint64_t ticket, int why)
{
	(void)arg, (void)ticket;
	printf("unknown: %s; read the total before adding again\n", replicator_result_name(why));
}

/* No write that ended before this read began is missing from the total. */
static void readable(void *arg, uint64_t ticket)
{
	(void)arg, (void)ticket;
	printf("total %" PRId64 "\n", total);
}

static void unreadable(void *arg, uint64_t ticket, int why)
{
	(void)arg, (void)ticket;
	printf("again: %s\n", replicator_result_name(why));
}

static void say(void *arg, const struct replicator_event *event)
{
	(void)arg;
	fprintf(stderr, "<%d>%s: %s\n", event->level, event->name, event->text);
}

static void take_line(struct replicator *replicator, char *line, uint64_t ticket)
{
	char *end;
	errno = 0;
	int64_t amount = strtoll(line, &end, 10);
	struct replicator_command command = {(const uint8_t *)&amount, sizeof amount};
	if (errno != 0 || *end != '\n') {
		printf("type a whole number, or nothing\n");
		return;
	}
	int r = end == line ? replicator_read(replicator, ticket) : replicator_propose(replicator, &command, 1, ticket);
	if (r != 0)
		printf("no: %s\n", replicator_result_name(r)); /* nothing was changed */
}

int main(int argc, char **argv)
{
	const struct replicator_machine machine = {.size = sizeof machine, .apply = apply, .dropped = dropped,
		.readable = readable, .unreadable = unreadable, .log = say};
	struct replicator *replicator = NULL;
	char message[REPLICATOR_MESSAGE_MAX], line[64] = "";
	int r = argc == 3 ? replicator_new(strtoull(argv[1], NULL, 10), argv[2], &machine, NULL, &replicator, message) : 2;
	if (r != 0) {
		fprintf(stderr, "%s\n", argc == 3 ? message : "usage: counter ID CONFIGURATION");
		return 1;
	}
	setvbuf(stdin, NULL, _IONBF, 0); /* poll must see what waits */
	setvbuf(stdout, NULL, _IOLBF, 0);
	struct pollfd polled[2] = {{.fd = replicator_fd(replicator), .events = POLLIN}, {.fd = 0, .events = POLLIN}};
	for (uint64_t ticket = 1; (r = replicator_process(replicator)) == 0; ticket++) {
		if (poll(polled, 2, -1) > 0 && polled[1].revents != 0) {
			if (fgets(line, sizeof line, stdin) == NULL)
				break;
			take_line(replicator, line, ticket);
		}
	}
	replicator_free(replicator);
	return r == 0 ? 0 : 1;
}
