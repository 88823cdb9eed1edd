/*
 * A client's requests: making them, sending them, and what their answers may be.
 *
 * What a client may see is checked on the spot. The log gives every write its place (its revision) and every read one (the last
 * entry applied before it), so a history is linearizable only if each answer's place lies above everything that anybody
 * had been told of when the request was invoked. Everything goes into the history as well, which is checked without this
 * witness.
 */
#include "client.h"

#include "daemon/assert.h"
#include "history.h"
#include "kv/command.h"
#include "kv/limits.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_US 30000u
#define REFUSED_US 4000u
#define DOUBLINGS_MAX 4u
#define FLOOD_NUMBERS ((uint64_t)1 << 47)

static uint64_t below(struct sim *sim, uint64_t bound)
{
	return sim_random_below(&sim->random_client, bound);
}

void sim_key_name(unsigned key, uint8_t name[SIM_KEY_SIZE])
{
	memset(name, 'k', SIM_KEY_SIZE);
	name[SIM_KEY_SIZE - 1] = (uint8_t)('0' + key);
}

/* Making ------------------------------------------------------------------------------------------------------ */

static struct request *add_request(struct sim *sim, struct sim_client *client, enum request_kind kind)
{
	raft_assert(client->n_requests < REQUESTS_MAX);
	struct request *request = &client->requests[client->n_requests++];
	*request = (struct request){
		.kind = kind, .session = client->session, .begun_us = sim->now_us, .retry_us = sim->now_us};
	request->floor = sim->acknowledged;
	request->number = kind == REQUEST_GET ? ++client->next_read : ++client->next_write;
	return request;
}

void client_begin_register(struct sim *sim, unsigned number)
{
	struct sim_client *client = &sim->clients[number];
	(void)add_request(sim, client, REQUEST_REGISTER);
}

/* Mostly small; now and then one that fills windows and rolls segments. */
static uint32_t draw_value_size(struct sim *sim)
{
	uint64_t largest = sim->plan.client_value_max;
	uint64_t draw = below(sim, 10);
	if (draw < 7 && largest > 64)
		largest = 64;
	else if (draw < 9 && largest > 1024)
		largest = 1024;
	return (uint32_t)(sizeof(uint64_t) + below(sim, largest - sizeof(uint64_t) + 1));
}

static enum request_kind draw_kind(struct sim *sim)
{
	uint64_t draw = below(sim, 100);
	if (draw < 45)
		return REQUEST_GET;
	if (draw < 80)
		return REQUEST_PUT;
	if (draw < 88)
		return REQUEST_DELETE;
	return draw < 98 ? REQUEST_CAS : REQUEST_NOTHING;
}

static void note_invocation(struct sim *sim, unsigned number, struct request *request)
{
	static const enum lin_kind kinds[] = {[REQUEST_GET] = LIN_GET,
					      [REQUEST_PUT] = LIN_PUT,
					      [REQUEST_DELETE] = LIN_DELETE,
					      [REQUEST_CAS] = LIN_CAS};
	if (request->kind == REQUEST_REGISTER || request->kind == REQUEST_NOTHING)
		return;
	request->history =
		sim_history_invoke(sim, number, kinds[request->kind], request->key, request->value, request->expected);
}

void client_begin_request(struct sim *sim, unsigned number)
{
	struct sim_client *client = &sim->clients[number];
	enum request_kind kind = draw_kind(sim);
	struct request *request = add_request(sim, client, kind);
	request->key = (unsigned)below(sim, SIM_KEYS);
	if (kind != REQUEST_GET)
		request->sequence = client->next_sequence++;
	if (kind == REQUEST_PUT || kind == REQUEST_CAS) {
		request->value = ++sim->next_value;
		request->value_size = draw_value_size(sim);
	}
	if (kind == REQUEST_CAS)
		request->expected = below(sim, 4) == 0 ? 0 : client->known[request->key];
	note_invocation(sim, number, request);
}

/* Who is not served asks less and less often; in the calm it hurries, because there it must be served. */
static uint64_t back_off(const struct sim *sim, struct request *request, uint64_t first_us)
{
	unsigned limit = sim->calm ? 1 : DOUBLINGS_MAX;
	unsigned doublings = request->attempts < limit ? request->attempts : limit;
	request->attempts++;
	return first_us << doublings;
}

/* Sending ----------------------------------------------------------------------------------------------------- */

/* The client has the answers of all writes below this one. */
static uint64_t client_acknowledged(const struct sim_client *client)
{
	for (unsigned k = 0; k < client->n_requests; k++)
		if (!request_reads(&client->requests[k]))
			return client->requests[k].sequence;
	return client->next_sequence;
}

static struct replicator_command encode(const struct request *request, uint64_t acknowledged)
{
	static const uint8_t operations[] = {[REQUEST_REGISTER] = KV_REGISTER,
					     [REQUEST_PUT] = KV_PUT,
					     [REQUEST_DELETE] = KV_DELETE,
					     [REQUEST_CAS] = KV_CAS,
					     [REQUEST_NOTHING] = KV_NOTHING};
	uint8_t name[SIM_KEY_SIZE];
	uint8_t value[SIM_VALUE_MAX];
	struct kv_command command = {.operation = operations[request->kind],
				     .session = request->session,
				     .sequence = request->sequence,
				     .acknowledged = acknowledged,
				     .expected = request->expected,
				     .key = name,
				     .value = value,
				     .value_size = request->value_size};
	if (request->kind != REQUEST_REGISTER && request->kind != REQUEST_NOTHING)
		command.key_size = sizeof name;
	sim_key_name(request->key, name);
	memset(value, (int)(request->value & 0xff), request->value_size);
	if (request->value_size > 0)
		memcpy(value, &request->value, sizeof request->value);
	uint32_t size = (uint32_t)kv_command_size(&command);
	uint8_t *bytes = malloc(size);
	raft_assert(bytes != NULL && size <= SIM_COMMAND_MAX);
	kv_command_encode(&command, bytes);
	return (struct replicator_command){bytes, size};
}

static void propose(struct sim *sim, unsigned member, uint64_t ticket, struct replicator_command *commands, uint32_t n)
{
	sim_member_write(sim, member, ticket, commands, n);
	if (sim_random_chance(&sim->random_client, sim->plan.client_duplicates))
		sim_member_write(sim, (unsigned)below(sim, sim->plan.members), ticket, commands, n);
	for (uint32_t k = 0; k < n; k++)
		free((void *)(uintptr_t)commands[k].data);
}

static bool is_due(const struct sim *sim, const struct request *request)
{
	return request->retry_us <= sim->now_us;
}

/* From the write at `from` on, as many with consecutive numbers as are due and fit one proposal. Returns how many. */
static unsigned send_writes(struct sim *sim, unsigned number, unsigned from)
{
	const struct sim_client *client = &sim->clients[number];
	struct replicator_command commands[REQUESTS_MAX] = {0};
	uint64_t first = client->requests[from].number;
	uint64_t acknowledged = client_acknowledged(client);
	uint32_t n = 0, bytes = 0;
	for (unsigned k = from; k < client->n_requests; k++) {
		const struct request *request = &client->requests[k];
		if (request_reads(request) || !is_due(sim, request) || request->number != first + n ||
		    bytes > SIM_PROPOSAL_MAX - SIM_COMMAND_MAX)
			break;
		commands[n] = encode(request, acknowledged);
		bytes += commands[n++].size;
	}
	propose(sim, client->target, sim_ticket_write(number, first), commands, n);
	return n;
}

/* A write is refused while one before it is missing: when it goes again, those go along. */
static void hurry_earlier_writes(const struct sim *sim, struct sim_client *client)
{
	bool again = false;
	for (unsigned k = client->n_requests; k > 0; k--) {
		struct request *request = &client->requests[k - 1];
		if (request_reads(request))
			continue;
		if (again)
			request->retry_us = sim->now_us;
		again |= is_due(sim, request) && request->attempts > 0;
	}
}

/* Now and then a read goes to a member that led before: it must know that it no longer does. */
static void send_read(struct sim *sim, unsigned number, const struct request *request)
{
	const struct sim_client *client = &sim->clients[number];
	unsigned member = below(sim, 4) == 0 ? client->former : client->target;
	sim_member_read(sim, member, sim_ticket_read(number, request->number, request->key));
}

void client_send(struct sim *sim, unsigned number)
{
	struct sim_client *client = &sim->clients[number];
	uint64_t jitter = below(sim, RETRY_US);
	hurry_earlier_writes(sim, client);
	for (unsigned k = 0; k < client->n_requests;) {
		const struct request *request = &client->requests[k];
		if (!is_due(sim, request)) {
			k++;
		} else if (request_reads(request)) {
			send_read(sim, number, request);
			k++;
		} else {
			k += send_writes(sim, number, k);
		}
	}
	for (unsigned k = 0; k < client->n_requests; k++) {
		struct request *request = &client->requests[k];
		if (is_due(sim, request))
			request->retry_us = sim->now_us + back_off(sim, request, RETRY_US) + jitter;
	}
}

void client_send_ghost(struct sim *sim, unsigned number)
{
	const struct request *ghost = &sim->clients[number].ghost;
	if (ghost->number == 0)
		return;
	struct replicator_command command = encode(ghost, 1);
	propose(sim, (unsigned)below(sim, sim->plan.members), sim_ticket_write(number, ghost->number), &command, 1);
}

void client_flood(struct sim *sim, unsigned number)
{
	const struct sim_client *client = &sim->clients[number];
	const struct request request = {.kind = REQUEST_REGISTER};
	struct replicator_command commands[REQUESTS_MAX];
	commands[0] = encode(&request, 1);
	for (unsigned k = 1; k < REQUESTS_MAX; k++)
		commands[k] = commands[0];
	/* Nobody waits for these: no request has such a number. */
	for (unsigned sent = 0; sent < KV_SESSIONS_MAX + KV_SESSIONS_MAX / 8; sent += REQUESTS_MAX)
		sim_member_write(sim, client->target, sim_ticket_write(number, FLOOD_NUMBERS), commands, REQUESTS_MAX);
	free((void *)(uintptr_t)commands[0].data);
}

/* Giving up --------------------------------------------------------------------------------------------------- */

static void give_up(struct sim *sim, struct request *request)
{
	if (request->kind == REQUEST_REGISTER || request->kind == REQUEST_NOTHING)
		return;
	sim_history_return(sim, request->history, request_reads(request) ? LIN_FAILED : LIN_UNKNOWN, 0,
			   LIN_REVISION_NONE);
}

static void drop_request(struct sim_client *client, struct request *request)
{
	unsigned k = (unsigned)(request - client->requests);
	client->n_requests--;
	memmove(request, request + 1, (client->n_requests - k) * sizeof *request);
}

void client_abandon(struct sim *sim, struct request *request)
{
	if (request->kind == REQUEST_GET || request->kind == REQUEST_REGISTER)
		return; /* a read has no place to fill, it just goes on */
	give_up(sim, request);
	request->kind = REQUEST_NOTHING;
	request->value_size = 0;
	request->expected = 0;
}

void client_vanish(struct sim *sim, unsigned number)
{
	struct sim_client *client = &sim->clients[number];
	sim_note(sim, "client %u vanishes with %u requests open", number, client->n_requests);
	for (unsigned k = 0; k < client->n_requests; k++) {
		struct request *request = &client->requests[k];
		give_up(sim, request);
		if (!request_reads(request) && request->kind != REQUEST_REGISTER && below(sim, 2) == 0)
			client->ghost = *request;
	}
	client->n_requests = 0;
	client->session = 0;
	client->next_sequence = 1;
}

/* Answers ----------------------------------------------------------------------------------------------------- */

static void check_place(struct sim *sim, unsigned number, const struct request *request, uint64_t place)
{
	bool reads = request_reads(request);
	if (reads ? place < request->floor : place <= request->floor)
		sim_fail(sim,
			 "client %u: %s of key %u has its place at %" PRIu64 ", but %" PRIu64
			 " was known before it began",
			 number, reads ? "read" : "write", request->key, place, request->floor);
	if (place > sim->acknowledged)
		sim->acknowledged = place;
}

static void take_read(struct sim *sim, unsigned number, const struct request *request, const struct sim_answer *answer)
{
	check_place(sim, number, request, answer->place);
	sim_history_return(sim, request->history, answer->revision > 0 ? LIN_OK : LIN_NOT_FOUND, answer->value,
			   answer->revision);
}

static enum lin_outcome write_outcome(struct sim *sim, unsigned number, const struct request *request,
				      const struct sim_answer *answer)
{
	if (answer->status == KV_OK)
		return LIN_OK;
	if (answer->status == KV_NOT_FOUND && request->kind == REQUEST_DELETE)
		return LIN_NOT_FOUND;
	if (answer->status == KV_CAS_MISMATCH && request->kind == REQUEST_CAS)
		return LIN_MISMATCH;
	sim_fail(sim, "client %u: request %" PRIu64 " of session %" PRIu64 " is answered with %s", number,
		 request->sequence, request->session, kv_status_name(answer->status));
}

static void take_write(struct sim *sim, unsigned number, const struct request *request, const struct sim_answer *answer)
{
	struct sim_client *client = &sim->clients[number];
	if (request->kind == REQUEST_NOTHING)
		return; /* if it took another write's place, this is that one's answer */
	enum lin_outcome outcome = write_outcome(sim, number, request, answer);
	if (outcome == LIN_OK) {
		sim_sessions_acknowledged(sim, request->session, request->sequence, answer->revision);
		check_place(sim, number, request, answer->revision);
	}
	client->known[request->key] = request->kind == REQUEST_DELETE ? 0 : answer->revision;
	sim_history_return(sim, request->history, outcome, 0, answer->revision);
}

/* True: this is no answer yet. */
static bool refused(struct sim *sim, unsigned number, struct request *request, const struct sim_answer *answer)
{
	struct sim_client *client = &sim->clients[number];
	if (answer->result == 0 && (request_reads(request) || answer->status != KV_OUT_OF_ORDER))
		return false;
	if (answer->leader != 0)
		client->target = answer->leader - 1;
	else if (answer->result != 0 && answer->result != REPLICATOR_E_BUSY)
		client->target = (unsigned)below(sim, sim->plan.members);
	uint64_t retry_us = sim->now_us + back_off(sim, request, REFUSED_US) + below(sim, REFUSED_US);
	if (retry_us < request->retry_us)
		request->retry_us = retry_us;
	return true;
}

static struct request *find_request(struct sim_client *client, uint64_t ticket)
{
	for (unsigned k = 0; k < client->n_requests; k++) {
		struct request *request = &client->requests[k];
		if (request_reads(request) == sim_ticket_reads(ticket) && request->number == sim_ticket_number(ticket))
			return request;
	}
	return NULL;
}

static void note_served(struct sim_client *client)
{
	if (client->served == client->target)
		return;
	client->former = client->served;
	client->served = client->target;
}

static void take_answer(struct sim *sim, unsigned number, struct request *request, const struct sim_answer *answer)
{
	struct sim_client *client = &sim->clients[number];
	if (!request_reads(request) && answer->status == KV_NO_SESSION && sim_sessions_full(sim)) {
		client_vanish(sim, number);
		return;
	}
	if (request->kind == REQUEST_REGISTER) {
		raft_assert(answer->status == KV_OK && answer->revision > 0);
		client->session = answer->revision;
		client->next_sequence = 1;
	} else if (request_reads(request)) {
		client->known[request->key] = answer->revision;
		take_read(sim, number, request, answer);
	} else {
		take_write(sim, number, request, answer);
		if (below(sim, 4) == 0)
			client->ghost = *request;
	}
	sim_note(sim, "client %u: %s %" PRIu64 " is answered: status %u revision %" PRIu64, number,
		 request_reads(request) ? "read" : "write", request->number, answer->status, answer->revision);
	drop_request(client, request);
	note_served(client);
	sim->counts.operations++;
}

void sim_client_answer(struct sim *sim, unsigned number, const struct sim_answer *answer)
{
	struct request *request = find_request(&sim->clients[number], answer->ticket);
	if (request == NULL)
		return; /* answered before, or given up */
	if (!refused(sim, number, request, answer))
		take_answer(sim, number, request, answer);
	sim_client_replan(sim, number);
}
