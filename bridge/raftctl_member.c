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

/* Waits until the entry at index, or a later one, is the committed membership. */
static int await_change(struct ctl_call *call, uint64_t index)
{
	for (;;) {
		struct kv_membership membership;
		int code = call_membership(call, &membership);
		if (code != CTL_OK)
			return code;
		if (membership.committed && membership.index >= index) {
			printf("OK %" PRIu64 "\n", index);
			return CTL_OK;
		}
		if (membership.committed && membership.index < index)
			return ctl_fail(CTL_FAILED, "the change was lost with its leader: look with 'raftctl member "
						    "list' and make it again");
		if (ctl_now_us() >= call->deadline_us)
			return ctl_fail(CTL_TIMEOUT,
					"not committed in time; 'raftctl member list' shows what becomes of it");
		struct timespec pause = {.tv_nsec = LOOK_AGAIN_US * 1000};
		(void)nanosleep(&pause, NULL); /* woken early it only looks early */
	}
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
		return ctl_fail(CTL_FAILED, "refused: %.*s", (int)answer.size, (const char *)answer.data);
	if (answer.answer != KV_ANSWER_OK)
		return ctl_fail(CTL_FAILED, "refused: %s", ctl_answer_name(answer.answer));
	return await_change(call, answer.number);
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

struct member_command {
	const char *name;
	enum kv_change_type type;
	int arguments; /* after the name */
};

static const struct member_command member_commands[] = {
	{"add", KV_CHANGE_ADD, 3},
	{"remove", KV_CHANGE_REMOVE, 1},
	{"promote", KV_CHANGE_PROMOTE, 1},
	{"move", KV_CHANGE_MOVE, 3},
};

/* Reads the command's words. CTL_OK or CTL_USAGE. */
static int parse_change(const struct ctl *ctl, struct kv_change *ret)
{
	const struct member_command *command = NULL;
	for (size_t k = 0; k < sizeof member_commands / sizeof member_commands[0]; k++)
		if (strcmp(member_commands[k].name, ctl->arguments[0]) == 0)
			command = &member_commands[k];
	if (command == NULL)
		return ctl_fail(CTL_USAGE, "member takes list, add, remove, promote or move, not %s",
				ctl->arguments[0]);
	if (ctl->n_arguments != 1 + command->arguments)
		return ctl_fail(CTL_USAGE, "member %s takes %s", command->name,
				command->arguments == 1 ? "ID" : "ID PEER-ENDPOINT CLIENT-ENDPOINT");
	*ret = (struct kv_change){.type = (uint8_t)command->type,
				  .flags = ctl->options.learner ? KV_CHANGE_STAY_LEARNER : 0};
	if (!config_parse_u64(ctl->arguments[1], 1, INT64_MAX, &ret->id))
		return ctl_fail(CTL_USAGE, "a member's id is a number from 1, not %s", ctl->arguments[1]);
	if (ctl->options.learner && command->type != KV_CHANGE_ADD)
		return ctl_fail(CTL_USAGE, "--learner goes with member add");
	if (command->arguments == 1)
		return CTL_OK;
	int code = set_endpoint(ret->peer, ctl->arguments[2]);
	return code == CTL_OK ? set_endpoint(ret->client, ctl->arguments[3]) : code;
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
		code = show ? list(ctl, &call) : ask_change(&call, &change);
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
