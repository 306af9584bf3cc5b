/**
 * Requests with one thing wrong, sent to a real vault, for tests/acceptance/test_node_client.py.
 *
 * Standard input: {"profile": file, "foreign": uuid of another client's record}. Standard output: {"cases": {what is
 * wrong: how it ended}, "flips": {part of a request: [ways in which it ended with one of its bytes flipped]}}. An end is
 * [code, reason, whether the Cryptor sealed it], or the external uuid of a record.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { setTimeout as after } from 'node:timers/promises';

import { Blocks, seal } from '../cobblestone.mjs';
import * as formats from '../formats.mjs';
import { suite } from '../hpke.mjs';
import { readProfile } from '../profile.mjs';
import { NotTaken, Session } from '../session.mjs';

const SECONDS = 60; // for any one request
const TOGETHER = 16;
const BLOB = Buffer.from('a record that must not come to be');
const LARGE = randomBytes(2 * formats.PIECE);
const HOUR = 3_600;

const { profile: path, foreign } = JSON.parse(await text(process.stdin));
const profile = await readProfile(path);
const now = () => Math.floor(Date.now() / 1000);
const hex = (value) => value.toString('hex');

// --- the wire: whatever comes back to a correlation id or a job

const listeners = new Set();
const session = await Session.open(profile, ({ type, meta, body, correlationId }) => {
  const message = formats.readMessage(type, meta, body);
  for (const listener of listeners) listener({ type, body, correlationId, ...message });
});

/** What `listen` makes of the first message of which it makes something, after `send`. */
async function exchange(send, listen) {
  const heard = Promise.withResolvers();
  const listener = (message) => {
    const found = listen(message);
    if (found !== undefined) heard.resolve(found);
  };
  listeners.add(listener);
  try {
    await send();
    return await Promise.race([heard.promise, after(SECONDS * 1000, 'nothing came', { ref: false })]);
  } finally {
    listeners.delete(listener);
  }
}

const keysId = randomUUID();
const keys = await exchange(
  () => session.publish('requests', '', { type: 'keys.v1', meta: {}, correlationId: keysId }),
  ({ type, body, correlationId }) =>
    type === 'key_directory.v1' && correlationId === keysId
      ? formats.readStatement(body, { ...profile, now: now() })
      : undefined,
);

// --- requests

/** An honest request, but for fields of `head` and `secrets`, and the key that it is sealed to. */
async function forged({
  op = 'dump',
  blob = BLOB,
  jobId = randomUUID(),
  head,
  secrets,
  publicKey = keys.publicKey,
} = {}) {
  const size = op === 'dump' ? blob.length : 0;
  const tag = formats.requestTag(profile.clientSecret, { op, jobId, size, content: formats.sha256(blob) });
  const payloadKey = randomBytes(32);
  const replyKey = op === 'dump' ? formats.replyKey(profile.clientSecret, jobId) : randomBytes(32);
  const transfer = size <= formats.LARGEST_INLINE ? 'inline' : 'upload';
  const request = await formats.buildRequest({
    head: {
      version: 1,
      suite: 1,
      vault_id: profile.vaultId,
      op,
      client_id: hex(profile.clientId),
      job_id: jobId,
      size,
      items: 1,
      transfer,
      key_id: hex(keys.keyId),
      issued_at: now(),
      expires_at: now() + HOUR,
      request_tag: hex(tag),
      ...head,
    },
    secrets: { payload_key: hex(payloadKey), reply_key: hex(replyKey), ...secrets },
    publicKey,
    signingKey: profile.signingKey,
  });
  const { clientId } = profile;
  return {
    ...request,
    jobId,
    replyKey,
    context:
      op === 'load' ? formats.loadAnswerContext(request.digest) : formats.answerContext(op, clientId, jobId, tag),
    payload: op === 'dump' ? seal(payloadKey, formats.payloadContext(request.digest), blob) : Buffer.alloc(0),
    whole() {
      return transfer === 'inline' ? Buffer.concat([this.envelope, this.payload]) : this.envelope;
    },
  };
}

/** Publishes a request and tells how it ends: as `body` if that is given, with other `properties`, and its `pieces`. */
function outcome(request, { body = request.whole(), properties = {}, pieces } = {}) {
  const correlationId = randomUUID();
  const jobs = [request.jobId, jobIdIn(body)];
  const message = { type: 'request.v1', meta: { notify: pieces !== undefined }, body, correlationId, ...properties };
  const listen = (heard) => {
    if (heard.type === 'refusal.v1' && heard.correlationId === correlationId) return [heard.code, heard.reason, false];
    for (const { status, sealed } of heard.jobs ?? []) {
      if (!jobs.includes(status.job_id)) continue;
      if (status.state === 'accepted' && pieces !== undefined) upload(status, pieces);
      if (sealed.length > 0) return told(formats.openAnswer(request.replyKey, request.context, sealed).outcome);
      if (['failed', 'expired'].includes(status.state)) return [status.code, status.reason, false];
    }
    return undefined;
  };
  return exchange(() => session.publish('requests', '', message), listen);
}

async function upload({ job_id: jobId, upload: queue }, pieces) {
  for (const [number, body] of pieces) {
    const meta = { job_id: jobId, number };
    try {
      await session.publish('uploads', queue, { type: 'upload.v1', meta, body });
    } catch (error) {
      if (error instanceof NotTaken) return; // the job is over
      throw error;
    }
  }
}

const told = ({ external_uuid: uuid, code }) => (code === null ? uuid : [code, '', true]);

/** The job id that an altered head has, if it can still be read. */
function jobIdIn(body) {
  try {
    return JSON.parse(formats.unlp(body, 1)[0]).job_id;
  } catch {
    return undefined;
  }
}

function flipped(bytes, at) {
  const altered = Buffer.from(bytes);
  altered[at < 0 ? altered.length + at : at] ^= 1;
  return altered;
}

// --- what is wrong

const enveloped = (spoil) => async () => {
  const request = await forged();
  return outcome(request, { body: spoil(request.envelope, request.payload) });
};
const signedAnew = (spoil) =>
  enveloped((envelope, payload) => {
    const [head, sealed] = formats.unlp(envelope, 3);
    return Buffer.concat([formats.signRequest(...spoil(head, sealed), profile.signingKey).envelope, payload]);
  });
const headed = (head) => async () => outcome(await forged({ head }));
const hidden = (secrets) => async () => outcome(await forged({ secrets }));
const sent = (properties) => async () => outcome(await forged(), { properties });
const loaded = (uuid) => async () => outcome(await forged({ op: 'load', secrets: { external_uuids: [uuid] } }));
const uploaded = (spoil) => async () => {
  const request = await forged({ blob: LARGE });
  const blocks = new Blocks(formats.PIECE);
  const pieces = [...blocks.push(request.payload), blocks.rest()];
  return outcome(request, { pieces: spoil([...pieces.entries()]) });
};

const CASES = {
  nothing: async () => outcome(await forged()),
  'nothing, in pieces': uploaded((pieces) => pieces),

  'the envelope is empty': enveloped(() => Buffer.alloc(0)),
  'the envelope is cut in the head': enveloped((envelope) => envelope.subarray(0, 100)),
  'the envelope is cut in the seal': enveloped((envelope) => envelope.subarray(0, 900)),
  'the envelope is cut in the signature': enveloped((envelope) => envelope.subarray(0, -1)),
  'a length runs past the end': enveloped((envelope) => flipped(envelope, 0)),
  'the seal is altered and signed': signedAnew((head, sealed) => [head, flipped(sealed, 600)]),
  'the seal is cut and signed': signedAnew((head, sealed) => [head, sealed.subarray(0, -1)]),
  'the head is no JSON and signed': signedAnew((head, sealed) => [flipped(head, 0), sealed]),
  'sealed to another key': async () => {
    const { publicKey } = await suite.kem.generateKeyPair();
    return outcome(await forged({ publicKey: Buffer.from(await suite.kem.serializePublicKey(publicKey)) }));
  },

  'an unknown version': headed({ version: 2 }),
  'an unknown suite': headed({ suite: 2 }),
  'another vault': headed({ vault_id: randomUUID() }),
  'another client': headed({ client_id: hex(randomBytes(16)) }),
  'an unknown key': headed({ key_id: hex(randomBytes(32)) }),
  expired: headed({ expires_at: now() - 1 }),
  'living too long': headed({ expires_at: now() + 26 * HOUR }),
  'from the future': headed({ issued_at: now() + HOUR }),
  'two items': headed({ items: 2 }),
  'one byte too large': headed({ size: formats.LARGEST_BLOB + 1 }),
  'another size': headed({ size: BLOB.length + 1 }),
  'an unknown op': headed({ op: 'erase' }),
  'an unknown field': headed({ more: 1 }),
  'a number as text': headed({ size: String(BLOB.length) }),
  'a missing field': headed({ request_tag: undefined }),
  'a sweep by one who is no operator': async () => outcome(await forged({ op: 'sweep' })),
  'an unknown field under the seal': hidden({ more: 1 }),
  'a uuid that a dump has not': hidden({ external_uuids: [randomUUID()] }),

  'the payload is cut': enveloped((envelope, payload) => Buffer.concat([envelope, payload.subarray(0, -1)])),
  'the payload is longer': enveloped((envelope, payload) => Buffer.concat([envelope, payload, Buffer.alloc(1)])),
  'another content under the same job id': async () => {
    const jobId = randomUUID();
    await outcome(await forged({ jobId }));
    return outcome(await forged({ jobId, blob: Buffer.from('another content, same job') }));
  },

  'a piece is altered': uploaded(([[, first], ...rest]) => [[0, flipped(first, 1_000)], ...rest]),
  'the last piece is altered': uploaded((pieces) => [...pieces.slice(0, -1), [2, flipped(pieces[2][1], -1)]]),
  'the last piece is cut': uploaded((pieces) => [...pieces.slice(0, -1), [2, pieces[2][1].subarray(0, -1)]]),
  'a piece is missing': uploaded(([first, , last]) => [first, last]),
  'a piece is too long': uploaded(([[, first], ...rest]) => [[0, Buffer.concat([first, Buffer.alloc(1)])], ...rest]),
  'the upload stops': uploaded((pieces) => pieces.slice(0, 2)),

  'no such record': loaded(randomUUID()),
  'a record of another client': loaded(foreign),
  'a uuid that is none': loaded('not-a-uuid'),

  'an unknown type': sent({ type: 'request.v2' }),
  'no meta': sent({ headers: {} }),
  'an unreadable meta': sent({ headers: { meta: '{' } }),
  'an unknown field in meta': sent({ meta: { more: 1 } }),
  'no user_id': sent({ userId: undefined }),
};

/** Requests with one byte flipped, one for each byte: by part of the request, in which ways they end. */
async function everywhere() {
  const request = await forged();
  const parts = {};
  let at = 0;
  for (const [name, part] of Object.entries(unpacked(request))) {
    parts[name] = Array.from({ length: part.length }, (_, offset) => at + offset);
    at += part.length;
  }
  const ends = {};
  for (const [name, places] of Object.entries(parts)) {
    ends[name] = new Set();
    while (places.length > 0) {
      await Promise.all(
        places.splice(0, TOGETHER).map(async (place) => {
          const fresh = await forged();
          ends[name].add(JSON.stringify(await outcome(fresh, { body: flipped(fresh.whole(), place) })));
        }),
      );
    }
  }
  return Object.fromEntries(
    Object.entries(ends).map(([name, found]) => [name, [...found].map((end) => JSON.parse(end))]),
  );
}

/** Each part with the length in front of it. */
function unpacked({ envelope, payload }) {
  const [head, sealed, signature] = formats.unlp(envelope, 3).map((part) => formats.lp(part));
  return { head, seal: sealed, signature, payload };
}

const cases = {};
for (const [name, run] of Object.entries(CASES)) cases[name] = await run();
const flips = await everywhere();
// The broker closes the channel: this comes last.
cases['the user_id of another client'] = await sent({ userId: 'mallory' })().catch((error) => error.name);
console.log(JSON.stringify({ cases, flips }));
await session.close();
