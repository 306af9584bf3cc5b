/**
 * Broker, gateway and Cryptor in one object, for tests of what the client believes. Every message to the client goes
 * through `alter`, which may change, drop or double it.
 */
import { createPrivateKey, createPublicKey, randomBytes, randomUUID, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as after } from 'node:timers/promises';

import { Blocks, Opener, open, seal } from '../cobblestone.mjs';
import * as formats from '../formats.mjs';
import { openWith } from '../hpke.mjs';
import { Lost } from '../session.mjs';
import { Vault } from '../trivault.mjs';

const bytes = (text) => Buffer.from(text, 'hex');
const json = (value) => Buffer.from(JSON.stringify(value));
const now = () => Math.floor(Date.now() / 1000);

export const vectors = (name) =>
  JSON.parse(readFileSync(new URL(`../../../tests/vectors/${name}.json`, import.meta.url), 'utf8'));

const HPKE = vectors('hpke');
const SIGNING_KEY = bytes(vectors('requests').signing_key);
const IDENTITY = createPrivateKey({
  key: Buffer.concat([bytes('302e020100300506032b657004220420'), SIGNING_KEY]),
  format: 'der',
  type: 'pkcs8',
});

export class FakeVault {
  records = new Map();
  requests = 0;
  questions = 0; // for statuses
  uploaded = 0; // pieces
  mistaken; // an external uuid that loads are answered with, whatever they ask for
  dies = false; // the first Cryptor that sends a download, after two pieces
  earlier; // the external uuid of an earlier request under every job id
  lost = new Promise(() => {});
  #alter;
  #onMessage;
  #ends = new Map(); // job id -> its end
  #downloads = new Map(); // queue -> pieces
  #uploads = new Map(); // queue -> what takes a piece

  constructor(alter = (message) => [message]) {
    this.#alter = alter;
    this.profile = {
      name: 'alice',
      vaultId: randomUUID(),
      clientId: randomBytes(16),
      signingKey: SIGNING_KEY,
      clientSecret: randomBytes(32),
      vaultIdentity: Buffer.from(createPublicKey(IDENTITY).export({ format: 'jwk' }).x, 'base64url'),
    };
  }

  /** A client that is connected to this vault, which takes the place of its session. */
  client() {
    return Vault.open(this.profile, async (_, onMessage) => {
      this.#onMessage = onMessage;
      return this;
    });
  }

  async close() {}

  async publish(exchange, routingKey, { type, meta, body, correlationId }) {
    if (type === 'keys.v1') this.#say({ type: 'key_directory.v1', meta: '{}', body: this.#statement(), correlationId });
    else if (type === 'request.v1') await this.#serve(body);
    else if (type === 'status.v1') {
      this.questions += 1;
      this.#say(this.#ends.get(meta.job_ids[0]));
    } else {
      this.uploaded += 1;
      this.#uploads.get(routingKey)(meta.number, body);
    }
  }

  async *pieces(queue) {
    for (const piece of this.#downloads.get(queue).flatMap(this.#alter)) yield { ...piece, ack() {} };
    throw new Lost('the download fell silent');
  }

  #statement() {
    const told = json({
      vault_id: this.profile.vaultId,
      hpke_keys: [HPKE.public],
      issued_at: now(),
      expires_at: now() + 60,
    });
    return formats.lp(told, sign(null, formats.lp('trivault/keys/v1', told), IDENTITY));
  }

  async #serve(body) {
    this.requests += 1;
    const [headBytes, sealed, signature, payload] = formats.unlp(body, 3);
    const job = {
      head: JSON.parse(headBytes),
      secrets: JSON.parse(await openWith(bytes(HPKE.xwing_seed), formats.lp('trivault/seal/v1', headBytes), sealed)),
      digest: formats.sha256(formats.lp('trivault/request/v1', headBytes, sealed)),
      fingerprint: formats.sha256(formats.lp(headBytes, sealed, signature)),
    };
    if (job.head.op === 'load') this.#load(job);
    else if (job.head.transfer === 'upload') await this.#accept(job);
    else this.#keep(job, open(bytes(job.secrets.payload_key), formats.payloadContext(job.digest), payload));
  }

  async #accept(job) {
    const { job_id: jobId } = job.head;
    const upload = `up.${this.profile.name}.${jobId}`;
    const opener = new Opener(bytes(job.secrets.payload_key), formats.payloadContext(job.digest));
    const parts = [];
    this.#uploads.set(upload, (number, piece) => {
      parts.push(opener.update(piece));
      if (piece.length < formats.PIECE) this.#keep(job, Buffer.concat([...parts, opener.final()]));
    });
    const request = this.earlier === undefined ? job.fingerprint : formats.sha256('an earlier request');
    this.#say(answers([{ job_id: jobId, state: 'accepted', upload, request: request.toString('hex') }]));
    if (this.earlier !== undefined) {
      await after(100); // a client that is wrong about this has begun to send by then
      this.#keep(job, Buffer.alloc(0), this.earlier);
    }
  }

  #keep(job, blob, uuid = randomUUID()) {
    const { client_id: clientId, job_id: jobId, request_tag: tag } = job.head;
    this.records.set(uuid, blob);
    this.#end(job, formats.answerContext('dump', bytes(clientId), jobId, bytes(tag)), {
      outcomes: [{ external_uuid: uuid }],
    });
  }

  #load(job) {
    const [uuid] = job.secrets.external_uuids;
    const blob = this.records.get(uuid);
    const context = formats.loadAnswerContext(job.digest);
    if (blob === undefined) {
      this.#end(job, context, { outcomes: [{ code: 'not_found' }] });
      return;
    }
    const large = blob.length > formats.LARGEST_INLINE;
    if (large) this.#offer(job, blob);
    const told = { outcomes: [{ external_uuid: this.mistaken ?? uuid }], size: blob.length };
    this.#end(job, context, told, large ? Buffer.alloc(0) : blob);
  }

  #offer({ head: { job_id: jobId }, secrets, digest }, blob) {
    const attempted = () => {
      const attempt = randomBytes(16);
      const blocks = new Blocks(formats.PIECE);
      const stream = seal(bytes(secrets.reply_key), formats.downloadContext(digest, attempt), blob);
      const bodies = [...blocks.push(stream), blocks.rest()];
      const meta = { job_id: jobId, attempt: attempt.toString('hex'), pieces: bodies.length };
      return bodies.map((body, number) => ({ type: 'download.v1', meta: JSON.stringify({ ...meta, number }), body }));
    };
    const queue = `down.${this.profile.name}.${jobId}`;
    this.#downloads.set(queue, [...(this.dies ? attempted().slice(0, 2) : []), ...attempted()]);
    this.#say(answers([{ job_id: jobId, state: 'running', download: queue }]));
  }

  #end({ head: { job_id: jobId, op }, secrets }, context, told, result = Buffer.alloc(0)) {
    const answer = seal(bytes(secrets.reply_key), context, Buffer.concat([formats.lp(json(told)), result]));
    this.#ends.set(jobId, answers([{ job_id: jobId, state: 'succeeded', op, size: answer.length }], answer));
    this.#say(this.#ends.get(jobId));
  }

  #say(message) {
    for (const each of this.#alter(message)) this.#onMessage(each);
  }
}

export const answers = (jobs, body = Buffer.alloc(0)) => ({ type: 'answers.v1', meta: JSON.stringify({ jobs }), body });

/** The same message with one bit of its body flipped. */
export function flipped(message, at) {
  const body = Buffer.from(message.body);
  body[at < 0 ? body.length + at : at] ^= 1;
  return { ...message, body };
}

/** A source and a sink (trivault.mjs) in memory. */
export const source = (blob) => ({
  size: blob.length,
  sha256: async () => formats.sha256(blob),
  async *read() {
    yield blob;
  },
});

export class Memory {
  bytes = Buffer.alloc(0);

  async restart() {
    this.bytes = Buffer.alloc(0);
  }

  async write(bytes) {
    this.bytes = Buffer.concat([this.bytes, bytes]);
  }
}
