/*
 * raftctl member, bootstrap, snapshot, reload: what operators change. A change is asked of the leader and waited for: it is done
 * when some member shows it as committed.
 */
#include "raftctl.h"
#include "raftctl_call.h"
#include "raftctl_json.h"

#include "kv/admin.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LOOK_AGAIN_US 50000u
#define LAST_LOOK_US 500000u /* with less time than this left an answer may not come any more */

static void begin(struct ctl *ctl, struct ctl_links *links, struct ctl_call *ret_call)
{
	*ret_call = (struct ctl_call){.links = links,
				      .deadline_us = ctl_now_us() + (uint64_t)ctl->options.timeout_ms * 1000u};
}

static const char *role_name(uint8_t role)
{
	switch ((enum kv_member_role)role) {
	case KV_MEMBER_VOTER:
		return "voter";
	case KV_MEMBER_LEARNER:
		return "learner";
	case KV_MEMBER_JOINING:
		return "joining";
	}
	return "unknown";
}

/* list ------------------------------------------------------------------------------------------------- */

static void print_json(const struct kv_membership *membership)
{
	struct json json = {.file = stdout};
	json_begin_object(&json, NULL);
	json_u64(&json, "index", membership->index);
	json_bool(&json, "committed", membership->committed);
	json_begin_array(&json, "members");
	for (uint32_t k = 0; k < membership->count; k++) {
		const struct kv_member *member = &membership->members[k];
		json_begin_object(&json, NULL);
		json_u64(&json, "id", member->id);
		json_string(&json, "role", role_name(member->role));
		json_hex(&json, "incarnation", member->incarnation);
		json_string(&json, "peer", member->peer);
		json_string(&json, "client", member->client);
		json_end_object(&json);
	}
	json_end_array(&json);
	json_end_object(&json);
	(void)putchar('\n');
}

static void print_table(const struct kv_membership *membership)
{
	printf("%-6s %-8s %-28s %s\n", "MEMBER", "ROLE", "PEER", "CLIENT");
	for (uint32_t k = 0; k < membership->count; k++) {
		const struct kv_member *member = &membership->members[k];
		printf("%-6" PRIu64 " %-8s %-28s %s\n", member->id, role_name(member->role), member->peer,
		       member->client);
	}
	printf("as of entry %" PRIu64 "%s\n", membership->index, membership->committed ? "" : ", not committed yet");
}

/* Asks one member for the membership. */
static int call_membership(struct ctl_call *call, struct kv_membership *ret)
{
	struct ctl_question question = {.type = KV_REQUEST_MEMBERS};
	struct kv_answer_body answer;
	int code = ctl_call_leader(call, &question, &answer);
	if (code != CTL_OK)
		return code;
	if (answer.answer != KV_ANSWER_OK || !kv_membership_decode(answer.data, answer.size, ret))
		return ctl_fail(CTL_FAILED, "a member answers with something that is no membership");
	return CTL_OK;
}

static int list(struct ctl *ctl, struct ctl_call *call)
{
	struct kv_membership membership;
	int code = call_membership(call, &membership);
	if (code != CTL_OK)
		return code;
	if (ctl->options.json)
		print_json(&membership);
	else
		print_table(&membership);
	return CTL_OK;
}

/* changes ---------------------------------------------------------------------------------------------- */

static const struct kv_member *find_member(const struct kv_membership *membership, uint64_t id)
{
	for (uint32_t k = 0; k < membership->count; k++)
		if (membership->members[k].id == id)
			return &membership->members[k];
	return NULL;
}

/* Whether the membership is what the change makes it. */
static bool is_made(const struct kv_change *change, const struct kv_membership *membership)
{
	const struct kv_member *member = find_member(membership, change->id);
	switch ((enum kv_change_type)change->type) {
	case KV_CHANGE_REMOVE:
		return member == NULL;
	case KV_CHANGE_PROMOTE:
		return member != NULL && member->role != KV_MEMBER_LEARNER;
	case KV_CHANGE_ADD:
	case KV_CHANGE_MOVE:
		return member != NULL && strcmp(member->peer, change->peer) == 0 &&
		       strcmp(member->client, change->client) == 0;
	}
	return false;
}

/* Waits until the entry at index, or a later one, is the committed membership. It need not be the one that was asked for: that may have
 * been cut off with its leader, and another one have taken its place. */
static int await_change(struct ctl_call *call, const struct kv_change *change, uint64_t index)
{
	for (;;) {
		struct kv_membership membership;
		int code = call_membership(call, &membership);
		if (code != CTL_OK)
			return code;
		if (membership.committed && membership.index >= index && is_made(change, &membership)) {
			printf("OK %" PRIu64 "\n", index);
			(void)fflush(stdout); /* what comes next may take long */
			return CTL_OK;
		}
		if (membership.committed)
			return ctl_fail(CTL_FAILED, "the change was lost with its leader: look with 'raftctl member "
						    "list' and make it again");
		if (ctl_now_us() >= call->deadline_us)
			return ctl_fail(CTL_TIMEOUT,
					"not committed in time; 'raftctl member list' shows what becomes of it");
		struct timespec pause = {.tv_nsec = LOOK_AGAIN_US * 1000};
		(void)nanosleep(&pause, NULL); /* woken early it only looks early */
	}
}

/* The answer to the first copy may be lost, above all when the leader itself was removed: then the second copy is refused because
 * of the first. */
static int take_refusal(struct ctl_call *call, const struct kv_change *change, const struct kv_answer_body *answer)
{
	struct kv_membership membership;
	char why[256]; /* the answer lives until the next question */
	(void)snprintf(why, sizeof why, "%.*s", (int)answer->size, (const char *)answer->data);
	if (call->repeated && call_membership(call, &membership) == CTL_OK && is_made(change, &membership))
		return await_change(call, change, membership.index);
	return ctl_fail(CTL_FAILED, "refused: %s", why);
}

static int ask_change(struct ctl_call *call, const struct kv_change *change)
{
	uint8_t body[24 + 2 * KV_ENDPOINT_MAX];
	struct kv_answer_body answer;
	kv_change_encode(body, change);
	struct ctl_question question = {
		.type = KV_REQUEST_CHANGE, .body = body, .size = (uint32_t)kv_change_size(change), .write = true};
	int code = ctl_call_leader(call, &question, &answer);
	if (code != CTL_OK)
		return code;
	if (answer.answer == KV_ANSWER_REFUSED)
		return take_refusal(call, change, &answer);
	if (answer.answer != KV_ANSWER_OK)
		return ctl_fail(CTL_FAILED, "refused: %s", ctl_answer_name(answer.answer));
	return await_change(call, change, answer.number);
}

static int set_endpoint(char *target, const char *text)
{
	const char *why;
	if (!config_parse_endpoint(text, &why))
		return ctl_fail(CTL_USAGE, "'%s': %s", text, why);
	if (strlen(text) > KV_ENDPOINT_MAX)
		return ctl_fail(CTL_USAGE, "an endpoint has at most %u characters", KV_ENDPOINT_MAX);
	memcpy(target, text, strlen(text) + 1);
	return CTL_OK;
}

/* replace ---------------------------------------------------------------------------------------------- */

/* Whether the member can be asked anything; it is given a second. */
static bool answers(struct ctl *ctl, uint64_t id)
{
	struct ctl_question question = {.type = KV_REQUEST_STATUS};
	struct kv_answer_body answer;
	struct ctl_links links;
	struct ctl_call call = {.links = &links, .deadline_us = ctl_now_us() + 1000000u};
	bool answered =
		ctl_links_open(&ctl->config, id, &links) == 0 && ctl_call_any(&call, &question, &answer) == CTL_OK;
	ctl_links_close(&links);
	return answered;
}

static int await_voter(struct ctl_call *call, uint64_t id)
{
	for (;;) {
		struct kv_membership membership;
		int code = call_membership(call, &membership);
		if (code != CTL_OK)
			return code;
		const struct kv_member *member = find_member(&membership, id);
		if (member == NULL)
			return ctl_fail(CTL_FAILED, "member %" PRIu64 " was removed again by somebody else", id);
		if (member->role == KV_MEMBER_VOTER && membership.committed)
			return CTL_OK;
		if (member->role == KV_MEMBER_LEARNER)
			return ctl_fail(CTL_FAILED, "member %" PRIu64 " stays a learner: 'raftctl member promote'", id);
		if (ctl_now_us() + LAST_LOOK_US >= call->deadline_us)
			return ctl_fail(CTL_TIMEOUT,
					"member %" PRIu64
					" was added and does not vote yet: does it run? The same command "
					"goes on from here; --timeout lets it wait longer",
					id);
		struct timespec pause = {.tv_nsec = LOOK_AGAIN_US * 1000};
		(void)nanosleep(&pause, NULL); /* woken early it only looks early */
	}
}

/* The new member may lead as soon as the old one is gone: from now on it is asked, too. */
static int reach_new_member(struct ctl *ctl, struct ctl_call *call, const struct kv_change *add)
{
	struct config *config = &ctl->config;
	if (config_find_member(config, add->id) == NULL && config->n_members < RAFT_MEMBERS_MAX) {
		struct config_member *member = &config->members[config->n_members++];
		*member = (struct config_member){.id = add->id};
		memcpy(member->peer, add->peer, sizeof add->peer);
		memcpy(member->client, add->client, sizeof add->client);
	}
	ctl_links_close(call->links);
	*call = (struct ctl_call){.links = call->links, .deadline_us = call->deadline_us};
	return ctl_links_open(config, 0, call->links) == 0 ? CTL_OK : CTL_FAILED;
}

/* An old member that works is kept until the new one votes: no copy is missing in between. One that does not answer is removed
 * first: it counts for every majority and gives nothing to any (dissertation, section 4.1; etcd's advice is the same). What was done
 * by an earlier attempt is not done again. */
static int replace_member(struct ctl *ctl, struct ctl_call *call, const struct kv_change *add, uint64_t old)
{
	const struct kv_change remove = {.type = KV_CHANGE_REMOVE, .id = old};
	struct kv_membership membership;
	int code = call_membership(call, &membership);
	if (code != CTL_OK)
		return code;
	bool old_is_there = find_member(&membership, old) != NULL;
	bool new_is_there = find_member(&membership, add->id) != NULL;
	if (!old_is_there && !new_is_there)
		return ctl_fail(CTL_FAILED, "there is no member %" PRIu64 ": see 'raftctl member list'", old);
	if (old_is_there && !answers(ctl, old)) {
		printf("member %" PRIu64 " does not answer: it is removed first\n", old);
		code = ask_change(call, &remove);
		old_is_there = false;
	}
	if (code == CTL_OK && !new_is_there)
		code = ask_change(call, add);
	if (code == CTL_OK)
		code = reach_new_member(ctl, call, add);
	if (code == CTL_OK)
		code = await_voter(call, add->id);
	if (code == CTL_OK)
		printf("member %" PRIu64 " votes\n", add->id);
	return code == CTL_OK && old_is_there ? ask_change(call, &remove) : code;
}

/* OLD-ID ID PEER CLIENT: the last three as in member add. */
static int replace(struct ctl *ctl, struct ctl_call *call, const struct kv_change *add)
{
	uint64_t old;
	if (!config_parse_u64(ctl->arguments[1], 1, INT64_MAX, &old))
		return ctl_fail(CTL_USAGE, "a member's id is a number from 1, not %s", ctl->arguments[1]);
	if (old == add->id)
		return ctl_fail(CTL_USAGE,
				"a new member has an id of its own. Is it the disk of %" PRIu64 " that is new? "
				"Then start it with an empty directory",
				old);
	return replace_member(ctl, call, add, old);
}

struct member_command {
	const char *name;
	enum kv_change_type type;
	int arguments; /* after the name */
	int first;     /* of them: where the id stands */
};

static const struct member_command member_commands[] = {
	{"add", KV_CHANGE_ADD, 3, 1},	  {"remove", KV_CHANGE_REMOVE, 1, 1}, {"promote", KV_CHANGE_PROMOTE, 1, 1},
	{"replace", KV_CHANGE_ADD, 4, 2}, {"move", KV_CHANGE_MOVE, 3, 1},
};

/* Reads the command's words. CTL_OK or CTL_USAGE. */
static int parse_change(const struct ctl *ctl, struct kv_change *ret)
{
	const struct member_command *command = NULL;
	for (size_t k = 0; k < sizeof member_commands / sizeof member_commands[0]; k++)
		if (strcmp(member_commands[k].name, ctl->arguments[0]) == 0)
			command = &member_commands[k];
	if (command == NULL)
		return ctl_fail(CTL_USAGE, "member takes list, add, remove, replace, promote or move, not %s",
				ctl->arguments[0]);
	if (ctl->n_arguments != 1 + command->arguments)
		return ctl_fail(CTL_USAGE, "member %s takes %s", command->name,
				command->arguments == 1	  ? "ID"
				: command->arguments == 3 ? "ID PEER-ENDPOINT CLIENT-ENDPOINT"
							  : "OLD-ID ID PEER-ENDPOINT CLIENT-ENDPOINT");
	*ret = (struct kv_change){.type = (uint8_t)command->type,
				  .flags = ctl->options.learner ? KV_CHANGE_STAY_LEARNER : 0};
	if (!config_parse_u64(ctl->arguments[command->first], 1, INT64_MAX, &ret->id))
		return ctl_fail(CTL_USAGE, "a member's id is a number from 1, not %s", ctl->arguments[command->first]);
	if (ctl->options.learner && strcmp(command->name, "add") != 0)
		return ctl_fail(CTL_USAGE, "--learner goes with member add");
	if (command->arguments == 1)
		return CTL_OK;
	int code = set_endpoint(ret->peer, ctl->arguments[command->first + 1]);
	return code == CTL_OK ? set_endpoint(ret->client, ctl->arguments[command->first + 2]) : code;
}

int ctl_member(struct ctl *ctl)
{
	struct kv_change change;
	struct ctl_links links;
	struct ctl_call call;
	bool show = strcmp(ctl->arguments[0], "list") == 0;
	int code = CTL_OK;
	if (show && ctl->n_arguments > 1)
		return ctl_fail(CTL_USAGE, "member list takes no more words");
	if (!show)
		code = parse_change(ctl, &change);
	if (code != CTL_OK)
		return code;
	begin(ctl, &links, &call);
	code = CTL_FAILED;
	if (ctl_links_open(&ctl->config, 0, &links) == 0)
		code = show					   ? list(ctl, &call)
		       : strcmp(ctl->arguments[0], "replace") == 0 ? replace(ctl, &call, &change)
								   : ask_change(&call, &change);
	ctl_links_close(&links);
	return code;
}

/* bootstrap, snapshot, reload ---------------------------------------------------------------------------------- */

/* Asks member --id for something that it does by itself. */
static int ask_one(struct ctl *ctl, uint8_t type, const char *done)
{
	struct ctl_question question = {.type = type, .write = true};
	struct kv_answer_body answer;
	struct ctl_links links;
	struct ctl_call call;
	if (ctl->options.id == 0)
		return ctl_fail(CTL_USAGE, "--id says which member");
	begin(ctl, &links, &call);
	int code = CTL_FAILED;
	if (ctl_links_open(&ctl->config, ctl->options.id, &links) == 0)
		code = ctl_call_any(&call, &question, &answer);
	if (code == CTL_OK && answer.answer == KV_ANSWER_REFUSED)
		code = ctl_fail(CTL_FAILED, "refused: %.*s", (int)answer.size, (const char *)answer.data);
	else if (code == CTL_OK && answer.answer != KV_ANSWER_OK)
		code = ctl_fail(CTL_FAILED, "refused: %s", ctl_answer_name(answer.answer));
	if (code == CTL_OK)
		printf("OK %s\n", done);
	if (code == CTL_OK && answer.size > 0)
		printf("%.*s\n", (int)answer.size, (const char *)answer.data);
	ctl_links_close(&links);
	return code;
}

int ctl_bootstrap(struct ctl *ctl)
{
	return ask_one(ctl, KV_REQUEST_BOOTSTRAP, "founded");
}

int ctl_reload(struct ctl *ctl)
{
	return ask_one(ctl, KV_REQUEST_RELOAD, "read");
}

int ctl_snapshot(struct ctl *ctl)
{
	return ask_one(ctl, KV_REQUEST_SNAPSHOT, "begun");
}
