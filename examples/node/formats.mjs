/**
 * The bytes of requests, answers and key statements (docs/format.md §1, §2, §4 to §7), and the metas of messages
 * (docs/protocol.md §3 to §5).
 *
 * Pure: this module knows no network, no files and no clock.
 */
import { createHash, createHmac, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';

import * as cobblestone from './cobblestone.mjs';
import { sealTo } from './hpke.mjs';

export const PIECE = 1_048_576;
export const LARGEST_BLOB = 52_428_800;
export const LARGEST_INLINE = 262_144;
export const LIFE = 3_600; // seconds until a request expires

export const CODES = [
  'invalid_request',
  'unauthenticated',
  'not_found',
  'blob_too_large',
  'conflict',
  'expired',
  'busy',
  'quota_exceeded',
  'store_unavailable',
  'upload_lost',
  'integrity_failed',
  'internal',
];

/** Bytes that are not what the format says. */
export class Malformed extends Error {
  name = 'Malformed';
}

// --- §1 LP

export function lp(...fields) {
  return Buffer.concat(
    fields.flatMap((field) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(Buffer.byteLength(field));
      return [length, Buffer.from(field)];
    }),
  );
}

/** The first `count` fields, and what follows them. */
export function unlp(bytes, count) {
  const fields = [];
  for (let number = 0; number < count; number += 1) {
    const end = bytes.length < 4 ? Infinity : 4 + bytes.readUInt32BE(0);
    if (end > bytes.length) throw new Malformed('a length runs past the end');
    fields.push(bytes.subarray(4, end));
    bytes = bytes.subarray(end);
  }
  return [...fields, bytes];
}

// --- §2 JSON: unknown fields, wrong types and missing fields are refused; a field at its default may be left out

const isText = (value) => typeof value === 'string';
const isFlag = (value) => typeof value === 'boolean';
const isCount = (value) => Number.isSafeInteger(value) && value >= 0;
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const like = (pattern) => (value) => isText(value) && pattern.test(value);
const oneOf = (names) => (value) => names.includes(value);
const hex = (bytes) => (value) => isText(value) && value.length === 2 * bytes && /^[0-9a-f]*$/.test(value);
const list = (check, most) => (value) =>
  Array.isArray(value) && value.length >= 1 && value.length <= most && value.every(check);
export const isUuid = like(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);

const REQUIRED = Symbol('required');
const STATUS = {
  job_id: [isUuid, REQUIRED],
  state: [oneOf(['accepted', 'running', 'succeeded', 'failed', 'expired', 'unknown']), REQUIRED],
  code: [oneOf(CODES), null],
  reason: [like(/^[a-z_0-9]{0,60}$/), ''],
  done: [isCount, 0],
  total: [isCount, 0],
  upload: [isText, null],
  download: [isText, null],
  op: [oneOf(['dump', 'load', 'ingest', 'export', 'sweep']), null],
  request_tag: [hex(32), null],
  request: [hex(32), null],
  size: [isCount, 0],
};
const OUTCOME = { external_uuid: [isUuid, null], code: [oneOf(CODES), null] };
const TOLD = { outcomes: [list(isObject, 10_000), REQUIRED], size: [isCount, 0], report: [isObject, null] };
const STATEMENT = {
  vault_id: [isUuid, REQUIRED],
  hpke_keys: [list(hex(1_216), Infinity), REQUIRED],
  issued_at: [isCount, REQUIRED],
  expires_at: [isCount, REQUIRED],
};
const METAS = {
  'answers.v1': { jobs: [list(isObject, 100), REQUIRED] },
  'refusal.v1': { code: [oneOf(CODES), REQUIRED], reason: STATUS.reason },
  'key_directory.v1': {},
  'download.v1': {
    job_id: [isUuid, REQUIRED],
    attempt: [hex(16), REQUIRED],
    number: [isCount, REQUIRED],
    pieces: [isCount, REQUIRED],
  },
};

function shaped(value, fields) {
  if (!isObject(value)) throw new Malformed('not an object');
  const unknown = Object.keys(value).find((name) => !Object.hasOwn(fields, name));
  if (unknown !== undefined) throw new Malformed('an unknown field');
  return Object.fromEntries(
    Object.entries(fields).map(([name, [check, byDefault]]) => {
      const found = Object.hasOwn(value, name) ? value[name] : byDefault;
      // `null` stands for an optional field that is absent, and for nothing else.
      if (found === REQUIRED || !((found === null && byDefault === null) || check(found))) {
        throw new Malformed(`the field ${name}`);
      }
      return [name, found];
    }),
  );
}

function parsed(bytes, fields) {
  let value;
  try {
    value = JSON.parse(isText(bytes) ? bytes : new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw new Malformed('not JSON');
  }
  return shaped(value, fields);
}

/** The meta of a message to the client; an answer's statuses come with their sealed answers (protocol.md §5). */
export function readMessage(type, meta, body) {
  if (!Object.hasOwn(METAS, type) || !isText(meta)) throw new Malformed('an unknown message');
  const message = parsed(meta, METAS[type]);
  if (type !== 'answers.v1') return message;
  const jobs = message.jobs.map((job) => {
    const status = shaped(job, STATUS);
    const sealed = body.subarray(0, status.size);
    body = body.subarray(status.size);
    if (sealed.length !== status.size) throw new Malformed('sizes that do not add up');
    return { status, sealed };
  });
  if (body.length > 0) throw new Malformed('sizes that do not add up');
  return { jobs };
}

// --- §4 key statements

/** The newest public key of a statement that verifies, its id, and until when. The message says why one does not. */
export function readStatement(body, { vaultIdentity, vaultId, now }) {
  const statement = signedBy(vaultIdentity, body); // the signature first: nothing of a forged statement is parsed
  const { vault_id: vault, hpke_keys: keys, expires_at: expiresAt } = parsed(statement, STATEMENT);
  if (vault !== vaultId) throw new Malformed('key_statement_of_another_vault');
  if (expiresAt <= now) throw new Malformed('key_statement_expired');
  const publicKey = Buffer.from(keys[0], 'hex');
  return { publicKey, keyId: sha256(publicKey), expiresAt };
}

function signedBy(identity, body) {
  const key = createPublicKey({
    key: { kty: 'OKP', crv: 'Ed25519', x: identity.toString('base64url') },
    format: 'jwk',
  });
  try {
    const [statement, signature, rest] = unlp(body, 2);
    if (rest.length === 0 && verify(null, lp('trivault/keys/v1', statement), key, signature)) return statement;
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
  }
  throw new Malformed('key_statement_forged');
}

// --- §5 requests

/** head and secrets are JavaScript objects; what is signed and sealed are their bytes as they are sent. */
export async function buildRequest({ head, secrets, publicKey, signingKey }) {
  const headBytes = Buffer.from(JSON.stringify(head));
  const seal = await sealTo(publicKey, lp('trivault/seal/v1', headBytes), Buffer.from(JSON.stringify(secrets)));
  return signRequest(headBytes, seal, signingKey);
}

export function signRequest(head, seal, signingKey) {
  const signed = lp('trivault/request/v1', head, seal);
  const signature = sign(null, signed, privateKey(signingKey));
  const envelope = lp(head, seal, signature);
  return { envelope, digest: sha256(signed), fingerprint: sha256(envelope) };
}

export const payloadContext = (digest) => lp('trivault/payload/v1', digest);

// --- §6 what a client derives

/** `content` is SHA-256 of a dump's blob, or of a load's external uuid. */
export function requestTag(clientSecret, { op, jobId, size, content }) {
  const length = Buffer.alloc(8);
  length.writeBigUInt64BE(BigInt(size));
  return hmac(clientSecret, lp('trivault/tag/v1', op, uuidBytes(jobId), length, content));
}

export const replyKey = (clientSecret, jobId) => hmac(clientSecret, lp('trivault/reply/v1', uuidBytes(jobId)));

// --- §7 answers and downloads

export const answerContext = (op, clientId, jobId, tag) =>
  lp('trivault/answer/v1', op, clientId, uuidBytes(jobId), tag);
export const loadAnswerContext = (digest) => lp('trivault/load-answer/v1', 'load', digest);
export const downloadContext = (digest, attempt) => lp('trivault/download/v1', digest, attempt);

/** The one outcome of a dump or a load, the result's size, and the result as far as it stands in the answer. */
export function openAnswer(key, context, sealed) {
  const [told, result] = unlp(cobblestone.open(key, context, sealed), 1);
  const { outcomes, size } = parsed(told, TOLD);
  if (outcomes.length !== 1) throw new Malformed('more than one outcome');
  const outcome = shaped(outcomes[0], OUTCOME);
  if ((outcome.external_uuid === null) === (outcome.code === null)) throw new Malformed('neither a record nor a code');
  if (result.length !== 0 && result.length !== size) throw new Malformed('a result of another size');
  return { outcome, size, result };
}

// --- primitives

export const sha256 = (bytes) => createHash('sha256').update(bytes).digest();
export const uuidBytes = (uuid) => Buffer.from(uuid.replaceAll('-', ''), 'hex');

const hmac = (key, bytes) => createHmac('sha256', key).update(bytes).digest();

/** node:crypto takes a seed in PKCS #8 only (RFC 8410 §7): these bytes, then the seed. */
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex');
const privateKey = (seed) => createPrivateKey({ key: Buffer.concat([PKCS8, seed]), format: 'der', type: 'pkcs8' });
