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
#define FLOOD_AT_ONCE 32u
#define PATIENCE_US 15000u /* of a sticky client, for a read */

static uint64_t below(struct sim *sim, uint64_t bound)
{
	return sim_random_below(&sim->random_client, bound);
}

void sim_key_name(unsigned key, uint8_t name[SIM_KEY_SIZE])
{
	memset(name, 'k', SIM_KEY_SIZE);
	for (unsigned k = SIM_KEY_SIZE; key > 0 || k == SIM_KEY_SIZE; key /= 10)
		name[--k] = (uint8_t)('0' + key % 10);
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

/* With many keys there are times of growth and times in which nearly everything is deleted. */
static enum request_kind draw_growth(struct sim *sim)
{
	bool shrinks = sim->now_us / 10000000 % 3 == 2;
	uint64_t draw = below(sim, 100);
	if (draw < 20)
		return REQUEST_GET;
	if (draw < 90)
		return shrinks ? REQUEST_DELETE : REQUEST_PUT;
	return shrinks ? REQUEST_PUT : REQUEST_DELETE;
}

static enum request_kind draw_kind(struct sim *sim)
{
	if (sim->plan.keys > 50)
		return draw_growth(sim);
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
	request->key = (unsigned)below(sim, sim->plan.keys);
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

/* Who is not served asks less and less often; in the calm it hurries, because there it must be served. In the end nobody does:
 * each repeated write is an entry more, and a cluster with a small window gets nothing else done. */
static uint64_t back_off(const struct sim *sim, struct request *request, uint64_t first_us)
{
	unsigned limit = sim->calm && !sim->silent ? 1 : DOUBLINGS_MAX;
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
	uint8_t name[SIM_KEY_SIZE];
	uint8_t value[SIM_VALUE_MAX];
	struct kv_command command = {.operation = (uint8_t)client_operation(request),
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

/* Where the last of n commands would be appended if the member took them now. */
static uint64_t place_of(const struct sim *sim, unsigned member, uint32_t n)
{
	struct raft_status status;
	if (!sim->members[member].up)
		return 0;
	raft_get_own_status(replica_core(sim->members[member].replica), &status);
	return status.role == RAFT_LEADER ? status.last_index + n : 0;
}

/* Returns the last index at which any of the commands may have been appended; 0: none was. */
static uint64_t propose(struct sim *sim, unsigned member, uint64_t ticket, struct replicator_command *commands,
			uint32_t n, unsigned *ret_sent)
{
	uint64_t place = place_of(sim, member, n);
	sim_protocol_write(sim, member, ticket, commands, n);
	*ret_sent = 1;
	if (sim_random_chance(&sim->random_client, sim->plan.client_duplicates)) {
		*ret_sent = 2;
		unsigned other = (unsigned)below(sim, sim_members(sim));
		uint64_t place_there = place_of(sim, other, n);
		if (place_there > place)
			place = place_there;
		sim_protocol_write(sim, other, ticket, commands, n);
	}
	for (uint32_t k = 0; k < n; k++)
		free((void *)(uintptr_t)commands[k].data);
	return place;
}

static bool is_due(const struct sim *sim, const struct request *request)
{
	return request->retry_us <= sim->now_us;
}

/* From the write at `from` on, as many with consecutive numbers as are due and fit one proposal. Returns how many. */
static unsigned send_writes(struct sim *sim, unsigned number, unsigned from)
{
	struct sim_client *client = &sim->clients[number];
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
	unsigned sent;
	uint64_t place = propose(sim, client->target, sim_ticket_write(number, first), commands, n, &sent);
	for (unsigned k = from; k < from + n; k++) {
		client->requests[k].sent += sent;
		if (client->requests[k].place < place)
			client->requests[k].place = place;
	}
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
	unsigned member = client->target;
	if (client->sticky)
		member = client->home;
	else if (!client_takes_turns(sim) && below(sim, 4) == 0)
		member = client->former;
	sim_protocol_get(sim, member, sim_ticket_read(number, request->number, request->key));
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
	unsigned member = (unsigned)below(sim, sim_members(sim));
	unsigned sent;
	client_sent_again(sim, ghost,
			  propose(sim, member, sim_ticket_write(number, ghost->number), &command, 1, &sent));
}

void client_flood(struct sim *sim, unsigned number)
{
	struct sim_client *client = &sim->clients[number];
	const struct request request = {.kind = REQUEST_REGISTER};
	struct replicator_command commands[REQUESTS_MAX];
	if (client->flood_left == 0)
		return;
	uint64_t n = client->flood_left < FLOOD_AT_ONCE ? client->flood_left : FLOOD_AT_ONCE;
	client->flood_left = sim->calm ? 0 : client->flood_left - n;
	if (sim_sessions_full(sim) && client->flood_left > KV_SESSIONS_MAX / REQUESTS_MAX / 8)
		client->flood_left = KV_SESSIONS_MAX / REQUESTS_MAX / 8;
	commands[0] = encode(&request, 1);
	for (unsigned k = 1; k < REQUESTS_MAX; k++)
		commands[k] = commands[0];
	for (uint64_t k = 0; k < n; k++)
		sim_member_write(sim, client->target, sim_ticket_nobody(), commands, REQUESTS_MAX);
	free((void *)(uintptr_t)commands[0].data);
}

void sim_client_burst(struct sim *sim, unsigned member, unsigned n, uint32_t size)
{
	struct replicator_command commands[REQUESTS_MAX];
	uint8_t bytes[SIM_COMMAND_MAX];
	raft_assert(n > 0 && n <= REQUESTS_MAX && size > 0 && size <= sizeof bytes);
	memset(bytes, 0xff, size);
	for (unsigned k = 0; k < n; k++)
		commands[k] = (struct replicator_command){bytes, size};
	unsigned at_once = SIM_PROPOSAL_MAX / size;
	for (unsigned left = n; left > 0;) {
		unsigned k = left < at_once ? left : at_once;
		sim_member_write(sim, member, sim_ticket_nobody(), commands, k);
		left -= k;
	}
}

/* Giving up --------------------------------------------------------------------------------------------------- */

static void drop_request(struct sim_client *client, struct request *request)
{
	unsigned k = (unsigned)(request - client->requests);
	client->n_requests--;
	memmove(request, request + 1, (client->n_requests - k) * sizeof *request);
}

void client_forget_reads(struct sim *sim, unsigned number)
{
	struct sim_client *client = &sim->clients[number];
	if (!client->sticky || sim->calm)
		return;
	for (unsigned k = client->n_requests; k > 0; k--) {
		struct request *request = &client->requests[k - 1];
		if (!request_reads(request) || sim->now_us - request->begun_us < PATIENCE_US)
			continue;
		client_leave(sim, request);
		drop_request(client, request);
	}
}

void client_abandon(struct sim *sim, struct request *request)
{
	if (request->kind == REQUEST_GET || request->kind == REQUEST_REGISTER)
		return; /* a read has no place to fill, it just goes on */
	client_leave(sim, request);
	request->kind = REQUEST_NOTHING;
	request->value_size = 0;
	request->expected = 0;
}

void client_vanish(struct sim *sim, unsigned number)
{
	struct sim_client *client = &sim->clients[number];
	sim_note(sim, "client %u vanishes with %u requests open", number, client->n_requests);
	for (unsigned k = 0; k < client->n_requests; k++) {
		const struct request *request = &client->requests[k];
		if (!request_reads(request) && request->kind != REQUEST_REGISTER && below(sim, 2) == 0)
			client->ghost = *request;
	}
	for (unsigned k = 0; k < client->n_requests; k++)
		client_leave(sim, &client->requests[k]);
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

/* The member says that it did not take the write. It was sent once only, so it never takes effect, and its number in the
 * session is free: another write may have it. */
static void take_failure(struct sim *sim, unsigned number, struct request *request, int result)
{
	bool definite = result == REPLICATOR_E_NOT_LEADER || result == REPLICATOR_E_BUSY ||
			result == REPLICATOR_E_NOT_READY || result == REPLICATOR_E_DISK_FULL;
	if (!definite || request->kind != REQUEST_PUT || request->sent != 1)
		return;
	if (request->carried_out)
		sim_fail(sim, "client %u: write %" PRIu64 " was refused and carried out", number, request->number);
	sim_note(sim, "client %u: write %" PRIu64 " failed", number, request->number);
	sim_history_return(sim, request->history, LIN_FAILED, 0, LIN_REVISION_NONE);
	request->value = ++sim->next_value;
	request->begun_us = sim->now_us;
	request->floor = sim->acknowledged;
	request->sent = 0;
	request->place = 0;
	note_invocation(sim, number, request);
}

/* True: this is no answer yet. */
static bool refused(struct sim *sim, unsigned number, struct request *request, const struct sim_answer *answer)
{
	struct sim_client *client = &sim->clients[number];
	if (answer->result == 0 && (request_reads(request) || answer->status != KV_OUT_OF_ORDER))
		return false;
	if (answer->leader != 0)
		client->target = answer->leader - 1;
	if (answer->leader != 0 && request_reads(request))
		client->home = answer->leader - 1;
	else if (answer->result != 0 && answer->result != REPLICATOR_E_BUSY && !client_takes_turns(sim) &&
		 (answer->leader == 0 || !sim->calm))
		client->target = (unsigned)below(sim, sim_members(sim)); /* in the calm it goes where it is told to */
	take_failure(sim, number, request, answer->result);
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
	sim_note(sim, "client %u: %s %" PRIu64 " is answered: %s, revision %" PRIu64, number,
		 request_reads(request) ? "get" : kv_operation_name((uint8_t)client_operation(request)), request->number,
		 kv_status_name(answer->status), answer->revision);
	drop_request(client, request);
	note_served(client);
	sim->counts.operations++;
	sim->answered_writes += !request_reads(request);
}

void sim_client_answer(struct sim *sim, unsigned number, const struct sim_answer *answer)
{
	struct request *request = find_request(&sim->clients[number], answer->ticket);
	if (request == NULL)
		return; /* answered before, or given up */
	sim->clients[number].stays = answer->result == 0 || answer->leader != 0;
	if (!refused(sim, number, request, answer))
		take_answer(sim, number, request, answer);
	sim_client_replan(sim, number);
}
