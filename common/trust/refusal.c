#include "common/trust/refusal.h"

static const char *const names[REFUSAL_N] = {
	[REFUSAL_NONE] = "believed",           [REFUSAL_UNSIGNED] = "unsigned",
	[REFUSAL_FOREIGN] = "foreign",         [REFUSAL_FORGED] = "forged",
	[REFUSAL_REPLAY] = "replay",           [REFUSAL_ROLLBACK] = "rollback",
	[REFUSAL_FREEZE] = "freeze",           [REFUSAL_MIXED] = "mix-and-match",
	[REFUSAL_DEVICE] = "another device's", [REFUSAL_MODEL] = "another model's",
	[REFUSAL_SIGNER] = "another signer's", [REFUSAL_UNSEALED] = "unsealed",
	[REFUSAL_WEAK] = "weak seal",          [REFUSAL_BLOCK] = "forged block",
};

const char *refusal_name(enum refusal r)
{
	return names[r];
}
