/* Why a message is not believed: each kind of attack has a name of its own, by which it is counted
 * and logged. */
#pragma once

enum refusal {
	REFUSAL_NONE,
	REFUSAL_UNSIGNED, /* no signature, or not at its place */
	REFUSAL_FOREIGN,  /* a certificate of no authority that counts here, expired, revoked */
	REFUSAL_FORGED,   /* the signature is not of these bytes on this topic */
	REFUSAL_REPLAY,   /* of a handover that is over */
	REFUSAL_ROLLBACK, /* older than what was accepted */
	REFUSAL_FREEZE,   /* its time is over, or it has none */
	REFUSAL_MIXED,    /* parts that do not belong together */
	REFUSAL_DEVICE,   /* of or for another device */
	REFUSAL_MODEL,    /* of another model */
	REFUSAL_SIGNER,   /* not by who must have written it */
	REFUSAL_UNSEALED, /* in plain, or without the key that blocks are to be sealed with */
	REFUSAL_WEAK,     /* such a key that the secret would be known to everybody */
	REFUSAL_BLOCK,    /* it does not open, or is not what the manifest's root says */
	REFUSAL_N
};

/* "another device's": in logs and errors. */
const char *refusal_name(enum refusal r);
