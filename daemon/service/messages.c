/*
 * See messages.h. A new kind of event is a line here, with an id of `systemd-id128 new`, and an entry in
 * systemd/raft.catalog; an id is never used for anything else later.
 */
#include "daemon/service/messages.h"

#include <stddef.h>
#include <string.h>

static const struct {
	const char *event;
	const char *id;
} messages[] = {
	/* A member's life */
	{"ready", "468ecf76996e4c5d857d7ad5d2543d7b"},
	{"stopping", "7734f63b31634bf6a7a593bdfef0bf96"},
	{"stopped", "c0d65d690469483a81b8ab90a1460755"},
	{"removed", "163a14d483d14fcf899399aaa931943b"},
	{"start-failed", "23d7454bef1e46d3a37a0c219e3ebc79"},
	{"no-memory", "830119f3aeae4487ab1eb5ec534e71e6"},
	{"config", "7004ecf3fe4645d49341464f7264a465"},
	{"reloaded", "b1b6ca2e649742bb98a0811532555388"},
	{"reload-failed", "d7e0a5dadbc740ada1a70e118fa8b696"},
	{"restart-needed", "2c4c9327008d400dac52ad5aa6172bcf"},
	{"bind-failed", "50ea56a6d84741a6b7cab9f0d2e889a8"},
	{"client-socket-failed", "010b840d474043a7b313108dbc392fce"},
	{"socket-invalid", "1115d663325d46229e7265ba7104d82c"},
	{"metrics-failed", "8982341f3fc54637af0702a127105f0e"},
	{"watchdog-invalid", "2056ff8d317c41f884ebddbf8f1e366d"},
	{"watchdog-withheld", "9de33042c58946499989836e44bfe7bf"},
	{"log-suppressed", "0a4028df9fc44104a70fa48679285a6e"},

	/* Elections */
	{"pre-candidate", "8bcedbda05c74bd3bf5151850ab36789"},
	{"candidate", "5a2e37fe797c47169ccd05123d230925"},
	{"vote-granted", "179aa342b4b74413ab529e7a0a2b4b13"},
	{"vote-refused", "966ca71f296a4b2ba665c89fb1ff8090"},
	{"leader", "24f9f3bab9144dd09e32a4d60cc0a1cd"},
	{"follower", "5dbe2b1f20054fa4993cae8fe408bab6"},
	{"step-down", "6890e8650c964b439813489185a2a7a0"},
	{"term", "987d7cca1b4d4a49a90cb9517c8ffe0e"},
	{"transfer", "f49687384694455ea4465cc4f1dd4543"},
	{"transfer-aborted", "70d57ec57f3b4dd6986799a7ee8ba418"},
	{"no-leader", "3f92b74078d34d58a6f7699b0e01d633"},

	/* The log and the disk */
	{"recovered", "a0ea67a7c8854c3c8b38af968a083cc0"},
	{"blank", "d7196abf9aa04c43b24479d0e0b66203"},
	{"torn-tail", "123bb09c3667415690eedda8a01970b9"},
	{"truncate", "8821164721d14ba199be763103757eb3"},
	{"damaged", "cd2577e6e3e446c0b3333c668fb73711"},
	{"log-unreadable", "84d13b0076a1413baa5ad097ce77db33"},
	{"log-reset", "07b22a133cbb43ba84b11a6e322625b7"},
	{"disk-failed", "4b65420c7dfb467e80d8e8091ed55b68"},
	{"disk-stalled", "ce4a10bac7ae4e4d8d57b57ec7582cd1"},
	{"disk-full", "4dd5282908fe447abebf5c17a968fc7b"},
	{"disk-has-room", "38b8479c3fdd4861909f2863e7f912ab"},

	/* Snapshots */
	{"log-outgrown", "c34b1889d5fc4f4da4613bd0b12cea30"},
	{"snapshot", "4b50684df82c47bb8dfe9836f908e32b"},
	{"snapshot-durable", "f36b6e486cce461a97972269de8e33e0"},
	{"compacted", "c6189b195c4544f7980ee197fa8ca62b"},
	{"snapshot-no-room", "0dd9842ea44d4c37aaa5876091936f6a"},
	{"snapshot-needed", "a4b12388bb9540aa9da16ddd7c487ccf"},
	{"snapshot-receive", "72dcbe6afee04ccea4e4b604e93d7836"},
	{"snapshot-installed", "9444ab7875d04ca3bc2ca1ac93b3a529"},
	{"snapshot-refused", "1198d64f787c4521a80e670ba25afd12"},
	{"snapshot-unreadable", "344270158c0c41b49f8976140425be48"},
	{"snapshot-gone", "734cd29f5eaf4330b31c097071915fc7"},

	/* Members */
	{"peer-up", "5acda6d1c1dc401e99e2c8df96b53789"},
	{"peer-down", "3ce67bbe3d6d4f3a8e65a1b5bba0cfc5"},
	{"unreachable", "38199fec9f9e4ac1913db88b26b5c788"},
	{"founded", "36e285ebeaa14920ade9415474a54017"},
	{"membership", "a914affb49bc45ed98a3af5008aa91c2"},
	{"membership-change", "c0e1f80a2fc64de8982d367a260142cb"},
	{"promoted", "48efc04ddc20479a9d19c3b32f2d99d1"},
	{"voter", "ffe72c17634f4d3db3b40b4bacc79301"},
	{"learner", "321731938b834062a5558bf69bd119b4"},
	{"incarnation-changed", "f810642246854d739e05574505cef3a2"},
	{"not-a-member", "2fec8e684f0e4ae7a5ddaa607e7add63"},
	{"configuration-differs", "36e6d5f47e174bf285e52a4df2aa2cb1"},
	{"bad-message", "8c88e2f70fd542daadd9b9192c20c0d0"},
	{"bad-frame", "e61c06e0130d4513843a2856546e7f5d"},
	{"bad-request-frame", "614d283578b244919e5e417c21af45fe"},
	{"feature-level", "1d93e9ee36d1445b8d86421061982c6d"},
	{"raises-feature-level", "f846a5d963124d9b984a217216f5f83c"},
	{"too-old", "047174d81dcf444a96d5a2f4de447225"},
	{"member-too-old", "31ecaf377bb6418cb3110c5dd4b09e59"},
	{"lost-entries", "f9ba8b507c1f46ccac11be87f0bb0cf7"},
	{"diverged", "23cae26861244f7d9594e69cc596ff69"},

	/* The bridge */
	{"started", "9c017722871d4efc96c69e20b34d1f6a"},
	{"leader-found", "2e6d44aa71b54acfabcfd3285c81dc9b"},
	{"member-joined", "c28e28316e7c4ddb9beb70e7a4f76822"},
	{"member-left", "ee942fe78f7e4733bcbcbc18437832ee"},
	{"member-unreachable", "343791de539d45618c3af42d33fb9869"},
	{"member-connected", "7340cce389b846f98cb76a57bf0dca25"},
	{"member-disconnected", "456425f28151406284f1dde7b346356a"},
	{"member-socket-failed", "8bf9e9a97ce8433491163e02d6c17715"},
	{"bad-reply-frame", "eda5d43f261e46758a2ca07a241f790e"},
	{"session-registered", "4d1130e254784f6b94157823897d11c1"},
	{"session-expired", "17297a36c0c243d39c60b7f47d6b8a17"},
	{"session-broken", "5f6e17218d984d59b43b573bac785471"},
	{"broken-answer", "ac5737bd9f12425fbb607ea9a3034ea9"},
	{"socket", "c2d15e67461f434daabe2552b13bb92f"},
	{"accept-failed", "b276fa7e56b64b958f0448bf52a190e4"},
	{"too-many-connections", "964165ecfcc34c1b90089636645205a7"},
	{"descriptors", "d184b3e0fcf04aa090e604d011591411"},
	{"loop-failed", "bd2edcc96b4c429282b483677ad1881f"},
	{"connections-cut", "21d887a333284d2ebe3d97a061fda7c6"},
};

const char *message_id(const char *event)
{
	for (size_t i = 0; event != NULL && i < sizeof(messages) / sizeof(messages[0]); i++) {
		if (strcmp(messages[i].event, event) == 0)
			return messages[i].id;
	}
	return NULL;
}
