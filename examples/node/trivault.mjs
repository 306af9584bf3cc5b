/**
 * The vault as its client sees it: dump, load and status, as docs/protocol.md says.
 *
 * A lost connection ends what is under way with `Lost`. Then ask for a dump by its job id (§11), and load anew.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as after } from 'node:timers/promises';

import { Blocks, BrokenSeal, Opener, Sealer, seal } from './cobblestone.mjs';
import * as formats from './formats.mjs';
import { Lost, NotTaken, Session, within } from './session.mjs';

const ANSWER = 20_000; // the gateway's, to a question
const FIRST_PAUSE = 5_000;
const LONGEST_PAUSE = 30_000;
const GRACE = 30; // seconds after a request expired
const TRIES = 3;
const IN_FLIGHT = 8; // pieces of an upload that are not confirmed yet

/** Codes that may come without a seal: somebody on the way refused, and no record is meant (§5). */
const UNSEALED = ['invalid_request', 'unauthenticated', 'conflict', 'busy', 'quota_exceeded', 'expired'];
const ENDS = ['succeeded', 'failed', 'expired'];

/** A refusal, or the client's own finding, with a code of §10. */
export class Refused extends Error {
  name = 'Refused';

  constructor(code, reason = '') {
    super(reason === '' ? code : `${code} (${reason})`);
    this.code = code;
    this.reason = reason;
  }
}

const now = () => Math.floor(Date.now() / 1000);

export class Vault {
  #profile;
  #session;
  #keys; // of the statement that is valid now
  #jobs = new Map(); // who hears the statuses of a job
  #queries = new Map(); // correlation id of a question for keys: who hears the answer

  /** Tests put a broker of their own in the place of `openSession`. */
  static async open(profile, openSession = Session.open) {
    const vault = new Vault();
    vault.#profile = profile;
    vault.#session = await openSession(profile, (message) => vault.#hear(message));
    return vault;
  }

  async close() {
    await this.#session.close();
  }

  /**
   * The external uuid of the record. `source` is {size, sha256(), read()}; `read` gives the bytes in portions. The same
   * job id and content are the same record, whenever they come.
   */
  async dump(source, jobId = randomUUID()) {
    const { size } = source;
    if (size > formats.LARGEST_BLOB) throw new Refused('blob_too_large'); // before anything is sent
    const content = await source.sha256();
    return this.#underCurrentKey(jobId, async (id) => {
      const job = await this.#job('dump', id, { size, content, secrets: {} });
      const inline = job.transfer === 'inline';
      const payload = inline ? sealed(job, await whole(source)) : Buffer.alloc(0);
      // An upload that breaks off leaves nothing to wait for.
      const upload = (queue, stop) => this.#upload(job, queue, source, stop).catch(job.end.reject);
      const { outcome } = await this.#during(job, upload, async () => {
        await this.#send(job, payload, { notify: !inline });
        return this.#end(job);
      });
      return outcome.external_uuid;
    });
  }

  /** Writes a record to `sink` ({restart(), write(bytes)}) and returns its size. Until then nothing is to be believed. */
  async load(externalUuid, sink) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#underCurrentKey(randomUUID(), (id) => this.#loadOnce(id, externalUuid, sink));
      } catch (error) {
        if (!(error instanceof Lost) || attempt === TRIES) throw error;
      }
    }
  }

  /** What is known of a job: the gateway's status, and `outcome` if there is an answer that the Cryptor sealed. */
  async status(jobId) {
    const heard = Promise.withResolvers();
    this.#jobs.set(jobId, { hear: (status, answer) => heard.resolve({ status, answer }) });
    try {
      await this.#ask(jobId);
      const { status, answer } = (await this.#within(ANSWER, heard.promise)) ?? lost('the gateway does not answer');
      // Op and tag are the gateway's word; if they are not those of the job, the answer does not open (§11).
      if (answer.length === 0 || status.op !== 'dump' || status.request_tag === null) return status;
      const opened = this.#open(jobId, Buffer.from(status.request_tag, 'hex'), answer);
      return opened === undefined ? status : { ...status, outcome: opened.outcome };
    } finally {
      this.#jobs.delete(jobId);
    }
  }

  async #loadOnce(jobId, externalUuid, sink) {
    const content = formats.sha256(formats.uuidBytes(externalUuid));
    const job = await this.#job('load', jobId, { size: 0, content, secrets: { external_uuids: [externalUuid] } });
    const download = (queue, stop) => this.#download(job, queue, sink, stop);
    const { size, result } = await this.#during(job, download, async (downloaded) => {
      await this.#send(job, Buffer.alloc(0), { notify: true });
      const answer = await this.#end(job);
      if (answer.outcome.external_uuid !== externalUuid) throw new Refused('integrity_failed');
      if (answer.result.length < answer.size) {
        await this.#nameQueue(job);
        if ((await downloaded) !== answer.size) throw new Refused('integrity_failed');
      }
      return answer;
    });
    if (result.length === size) {
      await sink.restart();
      await sink.write(result);
    }
    return size;
  }

  /** Once more with a new key and a new job id, if the vault does not know the key any more (§6). */
  async #underCurrentKey(jobId, attempt) {
    try {
      return await attempt(jobId);
    } catch (error) {
      if (!(error instanceof Refused) || error.reason !== 'unknown_key') throw error;
      this.#keys = undefined;
      return attempt(randomUUID());
    }
  }

  async #job(op, jobId, { size, content, secrets }) {
    const { clientId, clientSecret, signingKey, vaultId } = this.#profile;
    const { publicKey, keyId } = await this.#currentKeys();
    const payloadKey = randomBytes(32);
    const replyKey = op === 'load' ? randomBytes(32) : formats.replyKey(clientSecret, jobId);
    const tag = formats.requestTag(clientSecret, { op, jobId, size, content });
    const transfer = size <= formats.LARGEST_INLINE ? 'inline' : 'upload';
    const issuedAt = now();
    const head = {
      version: 1,
      suite: 1,
      vault_id: vaultId,
      op,
      client_id: clientId.toString('hex'),
      job_id: jobId,
      size,
      items: 1,
      transfer,
      key_id: keyId.toString('hex'),
      issued_at: issuedAt,
      expires_at: issuedAt + formats.LIFE,
      request_tag: tag.toString('hex'),
    };
    const request = await formats.buildRequest({
      head,
      secrets: { payload_key: payloadKey.toString('hex'), reply_key: replyKey.toString('hex'), ...secrets },
      publicKey,
      signingKey,
    });
    const context = op === 'load' ? formats.loadAnswerContext(request.digest) : undefined;
    const open = (answer) => (context ? opened(replyKey, context, answer) : this.#open(jobId, tag, answer));
    return new Job({ ...request, id: jobId, client: this.#profile.name, op, transfer, payloadKey, replyKey, open });
  }

  /** A dump's answer: everything that opens it follows from the client's secret and the job (§11). */
  #open(jobId, tag, answer) {
    const { clientId, clientSecret } = this.#profile;
    return opened(formats.replyKey(clientSecret, jobId), formats.answerContext('dump', clientId, jobId, tag), answer);
  }

  async #currentKeys() {
    for (let attempt = 1; this.#keys === undefined || this.#keys.expiresAt <= now(); attempt += 1) {
      if (attempt > TRIES) lost('the gateway has no keys for us');
      const answer = await this.#askForKeys();
      if (answer?.type === 'key_directory.v1') this.#keys = this.#verified(answer.body);
      else if (answer !== undefined && answer.code !== 'busy') throw new Refused(answer.code, answer.reason);
      else await after(1_000);
    }
    return this.#keys;
  }

  async #askForKeys() {
    const correlationId = randomUUID();
    const heard = Promise.withResolvers();
    this.#queries.set(correlationId, heard.resolve);
    try {
      await this.#session.publish('requests', '', { type: 'keys.v1', meta: {}, correlationId });
      return await this.#within(ANSWER, heard.promise);
    } finally {
      this.#queries.delete(correlationId);
    }
  }

  #verified(body) {
    const { vaultIdentity, vaultId } = this.#profile;
    try {
      return formats.readStatement(body, { vaultIdentity, vaultId, now: now() });
    } catch (error) {
      throw error instanceof formats.Malformed ? new Refused('unauthenticated', error.message) : error;
    }
  }

  /** `action`, while statuses are heard, and `move` from when one names a queue. Both have ended when this returns. */
  async #during(job, move, action) {
    const stop = new AbortController();
    const moved = job.queue.promise.then((queue) => (queue === undefined ? undefined : move(queue, stop.signal)));
    moved.catch(() => {}); // seen by `action`, if it asks
    this.#jobs.set(job.id, job);
    try {
      return await action(moved);
    } finally {
      this.#jobs.delete(job.id);
      job.queue.resolve(undefined);
      stop.abort();
      await moved.catch(() => {});
    }
  }

  async #send(job, payload, meta) {
    const body = Buffer.concat([job.envelope, payload]);
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#session.publish('requests', '', { type: 'request.v1', meta, body, correlationId: job.id });
      } catch (error) {
        if (!(error instanceof NotTaken || error instanceof Lost) || attempt === TRIES) throw error;
        await after(1_000);
      }
    }
  }

  /** The answer, and no code. The gateway is asked after every silence, for its word may have been lost (§11). */
  async #end(job) {
    const until = now() + formats.LIFE + GRACE;
    for (let pause = FIRST_PAUSE; now() < until; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
      const answer = await this.#within(pause, job.end.promise);
      if (answer === undefined) await this.#ask(job.id);
      else if (answer.outcome.code !== null) throw new Refused(answer.outcome.code);
      else return answer;
    }
    return lost('no answer came');
  }

  async #ask(jobId) {
    const meta = { job_ids: [jobId] };
    await this.#session.publish('requests', '', { type: 'status.v1', meta, correlationId: randomUUID() });
  }

  /** The answer says that there is a download, and nobody has named its queue yet. */
  async #nameQueue(job) {
    const named = job.queue.promise.then(() => true);
    if (await within(0, named)) return;
    await this.#ask(job.id);
    if (!(await this.#within(ANSWER, named))) lost('no queue was named');
  }

  async #upload(job, queue, source, stop) {
    const flights = [];
    let number = 0;
    try {
      for await (const body of pieces(job, source)) {
        if (stop.aborted) return;
        if (flights.length === IN_FLIGHT) await flights.shift();
        const meta = { job_id: job.id, number };
        const flight = this.#session.publish('uploads', queue, { type: 'upload.v1', meta, body });
        flight.catch(() => {}); // seen when it is awaited
        flights.push(flight);
        number += 1;
      }
      await Promise.all(flights);
    } catch (error) {
      if (!(error instanceof NotTaken)) throw error; // no piece is wanted any more: the answer says why (§7)
    }
  }

  /** Writes the download that proves whole to the sink, and returns its size (§8). */
  async #download(job, queue, sink, stop) {
    let attempt;
    let expected;
    let opener;
    let size;
    for await (const { type, meta, body, ack } of this.#session.pieces(queue, stop)) {
      const piece = readable(type, meta, body);
      if (piece?.number === 0 && piece.attempt !== attempt) {
        [attempt, expected, size] = [piece.attempt, 0, 0];
        opener = new Opener(job.replyKey, formats.downloadContext(job.digest, Buffer.from(attempt, 'hex')));
        await sink.restart();
      }
      // Left over from a Cryptor that died, or not for us: passed over.
      if (piece?.job_id === job.id && piece.attempt === attempt && piece.number === expected) {
        if (body.length > formats.PIECE) throw new Refused('integrity_failed');
        expected += 1;
        const parts = intact(() => [opener.update(body), expected === piece.pieces ? opener.final() : Buffer.alloc(0)]);
        for (const part of parts) await sink.write(part);
        size += parts[0].length + parts[1].length;
        if (expected === piece.pieces) return size;
      }
      ack();
    }
    return undefined; // stopped
  }

  #hear({ type, meta, body, correlationId }) {
    const message = readable(type, meta, body);
    if (message === undefined) return;
    for (const { status, sealed: answer } of message.jobs ?? []) this.#jobs.get(status.job_id)?.hear(status, answer);
    if (type === 'refusal.v1') this.#jobs.get(correlationId)?.refuse?.(message);
    if (type !== 'answers.v1') this.#queries.get(correlationId)?.({ type, body, ...message });
  }

  /** Undefined after that time; throws at once if the connection is lost. */
  #within(milliseconds, promise) {
    return within(milliseconds, Promise.race([promise, this.#session.lost]));
  }
}

/** A request under way: what the gateway says of it, and how much of that is believed (§5). */
class Job {
  end = Promise.withResolvers(); // the opened answer, or a refusal
  queue = Promise.withResolvers(); // of the upload or the download

  constructor(request) {
    Object.assign(this, request);
    this.end.promise.catch(() => {}); // a refusal may come before somebody waits
  }

  hear(status, answer) {
    const { id, client, fingerprint } = this;
    if (this.op === 'load') this.#name(status.download, `down.${client}.${id}`);
    // Another request under this job id has another payload key, and its Cryptor could not open our pieces (§7).
    else if (status.request === fingerprint.toString('hex')) this.#name(status.upload, `up.${client}.${id}`);
    if (!ENDS.includes(status.state)) return;
    if (answer.length > 0) {
      const truth = this.open(answer);
      if (truth !== undefined) this.end.resolve(truth);
    } else if (status.state !== 'succeeded') this.refuse(status);
    else if (this.op === 'load') this.end.reject(new Lost('the answer went elsewhere'));
  }

  refuse({ code, reason }) {
    if (UNSEALED.includes(code)) this.end.reject(new Refused(code, reason));
  }

  #name(queue, expected) {
    if (queue === expected) this.queue.resolve(queue);
  }
}

/** Undefined if it is not what a client understands: dropped, without an error (§3). */
function readable(type, meta, body) {
  return unless(formats.Malformed, () => formats.readMessage(type, meta, body));
}

/** Undefined if it does not open: then it says nothing (§5). */
function opened(key, context, answer) {
  return unless(formats.Malformed, () => unless(BrokenSeal, () => formats.openAnswer(key, context, answer)));
}

function unless(kind, action) {
  try {
    return action();
  } catch (error) {
    if (error instanceof kind) return undefined;
    throw error;
  }
}

function intact(action) {
  return unless(BrokenSeal, action) ?? refuse('integrity_failed');
}

function refuse(code) {
  throw new Refused(code);
}

function lost(why) {
  throw new Lost(why);
}

function sealed(job, plaintext) {
  return seal(job.payloadKey, formats.payloadContext(job.digest), plaintext);
}

async function whole(source) {
  return Buffer.concat(await Array.fromAsync(source.read()));
}

/** The sealed payload in pieces (format.md §3), made while the source is read. */
async function* pieces(job, source) {
  const sealer = new Sealer(job.payloadKey, formats.payloadContext(job.digest));
  const blocks = new Blocks(formats.PIECE);
  yield* blocks.push(sealer.header);
  for await (const bytes of source.read()) yield* blocks.push(sealer.update(bytes));
  yield* blocks.push(sealer.final());
  const rest = blocks.rest();
  if (rest.length > 0) yield rest;
}
