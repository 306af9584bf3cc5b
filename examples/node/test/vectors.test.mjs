/** The formats against tests/vectors: what a client makes comes out byte for byte, and what was altered is refused. */
import assert from 'node:assert/strict';
import { createHash, createPublicKey, verify } from 'node:crypto';
import { test } from 'node:test';

import * as cobblestone from '../cobblestone.mjs';
import * as formats from '../formats.mjs';
import { openWith, sealTo } from '../hpke.mjs';
import { vectors } from './fake-vault.mjs';

const bytes = (text) => Buffer.from(text, 'hex');
const hex = (value) => Buffer.from(value).toString('hex');

function* flips(whole, step = 1) {
  for (let at = 0; at < whole.length; at += step) {
    const altered = Buffer.from(whole);
    altered[at] ^= 1;
    yield altered;
  }
}

test('LP fields', () => {
  for (const { fields, lp } of vectors('derived').lp) {
    assert.equal(hex(formats.lp(...fields.map(bytes))), lp);
    assert.deepEqual(formats.unlp(bytes(lp), fields.length).map(hex), [...fields, '']);
  }
  for (const cut of ['', '000000', '00000001', '000000026']) {
    assert.throws(() => formats.unlp(bytes(cut), 1), formats.Malformed);
  }
});

test('streams seal and open, in portions of any size', () => {
  const { key, context, valid, invalid } = vectors('streams');
  assert.ok(valid.length > 0 && invalid.length > 0);
  for (const { plaintext, sealed } of valid) {
    assert.equal(
      hex(cobblestone.seal(bytes(key), bytes(context), bytes(plaintext), bytes(sealed).subarray(0, 24))),
      sealed,
    );
    assert.equal(hex(cobblestone.open(bytes(key), bytes(context), bytes(sealed))), plaintext);
    for (const portion of [1_000, 16_384, 16_400]) {
      const opener = new cobblestone.Opener(bytes(key), bytes(context));
      const opened = [];
      for (let at = 0; at < sealed.length / 2; at += portion)
        opened.push(opener.update(bytes(sealed).subarray(at, at + portion)));
      assert.equal(hex(Buffer.concat([...opened, opener.final()])), plaintext);
    }
  }
  for (const { name, sealed } of invalid) {
    assert.throws(() => cobblestone.open(bytes(key), bytes(context), bytes(sealed)), cobblestone.BrokenSeal, name);
  }
});

test('a stream with any byte flipped, or cut anywhere, is refused', () => {
  const { key, context, valid } = vectors('streams');
  const sealed = bytes(valid.find(({ plaintext }) => plaintext.length === 2).sealed);
  for (const altered of flips(sealed)) {
    assert.throws(() => cobblestone.open(bytes(key), bytes(context), altered), cobblestone.BrokenSeal);
  }
  for (let length = 0; length < sealed.length; length += 1) {
    assert.throws(
      () => cobblestone.open(bytes(key), bytes(context), sealed.subarray(0, length)),
      cobblestone.BrokenSeal,
    );
  }
});

test('tags, reply keys and contexts', () => {
  const given = vectors('derived');
  const [secret, digest] = [bytes(given.client_secret), bytes(given.request_digest)];
  const dump = { op: 'dump', jobId: given.job_id, size: given.size, content: formats.sha256(bytes(given.content)) };
  const load = {
    op: 'load',
    jobId: given.job_id,
    size: 0,
    content: formats.sha256(formats.uuidBytes(given.external_uuid)),
  };
  const tag = formats.requestTag(secret, dump);
  assert.equal(hex(tag), given.dump_request_tag);
  assert.equal(hex(formats.requestTag(secret, load)), given.load_request_tag);
  assert.equal(hex(formats.replyKey(secret, given.job_id)), given.reply_key);
  assert.equal(hex(formats.payloadContext(digest)), given.payload_context);
  assert.equal(
    hex(formats.answerContext('dump', bytes(given.client_id), given.job_id, tag)),
    given.dump_answer_context,
  );
  assert.equal(hex(formats.loadAnswerContext(digest)), given.load_answer_context);
  assert.equal(hex(formats.downloadContext(digest, bytes(given.attempt))), given.download_context);
});

test('HPKE seals open, our own too, and altered ones do not', async () => {
  const given = vectors('hpke');
  const seed = bytes(given.xwing_seed);
  const info = bytes(given.valid[0].info);
  assert.equal(hex(formats.sha256(bytes(given.public))), given.key_id);
  for (const { info, sealed, plaintext } of given.valid) {
    assert.equal(hex(await openWith(seed, bytes(info), bytes(sealed))), plaintext);
  }
  const own = await sealTo(bytes(given.public), info, Buffer.from('secrets'));
  assert.equal(String(await openWith(seed, info, own)), 'secrets');
  for (const altered of flips(own, 97)) await assert.rejects(openWith(seed, info, altered));
  assert.ok(given.invalid.length > 0);
  for (const { name, sealed } of given.invalid) await assert.rejects(openWith(seed, info, bytes(sealed)), name);
});

test('key statements are believed under the pin, for this vault, until they expire', () => {
  const given = vectors('statements');
  const pin = { vaultIdentity: bytes(given.identity), vaultId: given.vault_id, now: given.now };
  const { publicKey, keyId } = formats.readStatement(bytes(given.body), pin);
  assert.equal(hex(publicKey), given.hpke_public);
  assert.equal(hex(keyId), given.key_id);
  assert.ok(given.invalid.length > 0);
  for (const { name, body, reason } of given.invalid) {
    assert.throws(() => formats.readStatement(bytes(body), pin), { name: 'Malformed', message: reason }, name);
  }
  for (const altered of flips(bytes(given.body), 7)) {
    assert.throws(() => formats.readStatement(altered, pin), formats.Malformed);
  }
});

test('a request is signed, fingerprinted and its payload sealed to the byte', () => {
  const given = vectors('requests');
  const [head, seal, signature, payload] = formats.unlp(bytes(given.request), 3);
  assert.equal(String(head), given.head);
  const { envelope, digest, fingerprint } = formats.signRequest(head, seal, bytes(given.signing_key));
  assert.equal(hex(digest), given.digest);
  assert.equal(hex(fingerprint), given.fingerprint);
  assert.equal(hex(envelope), hex(formats.lp(head, seal, signature)));
  const key = bytes(JSON.parse(given.secrets).payload_key);
  assert.equal(hex(cobblestone.open(key, formats.payloadContext(digest), payload)), given.plaintext);
  assert.equal(
    hex(cobblestone.seal(key, formats.payloadContext(digest), bytes(given.plaintext), payload.subarray(0, 24))),
    hex(payload),
  );
});

test("a request that was altered is not the client's any more", () => {
  const given = vectors('requests');
  const x = bytes(given.verify_key).toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  const isSigned = (request) => {
    const [head, seal, signature] = formats.unlp(bytes(request), 3);
    return verify(null, formats.lp('trivault/request/v1', head, seal), key, signature);
  };
  assert.equal(isSigned(given.request), true);
  const altered = given.invalid.filter(({ reason }) => reason === 'wrong_signature');
  assert.ok(altered.length > 0);
  for (const { name, request } of altered) assert.equal(isSigned(request), false, name);
});

test('every operation: head, secrets, tag, reply key and answer', async () => {
  const given = vectors('operations');
  const secret = bytes(given.client_secret);
  const operations = given.operations.filter(({ op }) => op === 'dump' || op === 'load');
  assert.ok(operations.length >= 3);
  for (const { op, job_id: jobId, ...rest } of operations) {
    const head = JSON.parse(rest.head);
    const secrets = JSON.parse(rest.secrets);
    const content = formats.sha256(bytes(rest.content));
    assert.equal(hex(content), rest.content_sha256);
    const tag = formats.requestTag(secret, { op, jobId, size: head.size, content });
    assert.equal(hex(tag), rest.request_tag);
    if (op === 'dump') assert.equal(hex(formats.replyKey(secret, jobId)), rest.reply_key);
    const context =
      op === 'dump'
        ? formats.answerContext(op, bytes(given.client_id), jobId, tag)
        : formats.loadAnswerContext(bytes(given.request_digest));
    assert.equal(hex(context), rest.answer_context);
    const { outcome, size, result } = formats.openAnswer(bytes(rest.reply_key), context, bytes(rest.sealed_answer));
    const told = JSON.parse(rest.answer);
    assert.deepEqual(outcome, { external_uuid: null, code: null, ...told.outcomes[0] });
    assert.equal(size, told.size ?? 0);
    assert.equal(hex(result), rest.result);
    assert.equal(secrets.reply_key, rest.reply_key);
  }
});

test('answers open, and altered ones do not', () => {
  const { reply_key: key, dump, load, invalid_dump: invalid } = vectors('answers');
  const opened = formats.openAnswer(bytes(key), bytes(dump.context), bytes(dump.sealed));
  assert.equal(opened.outcome.external_uuid, JSON.parse(dump.answer).outcomes[0].external_uuid);
  assert.equal(hex(formats.openAnswer(bytes(key), bytes(load.context), bytes(load.sealed)).result), load.blob);
  assert.ok(invalid.length > 0);
  for (const altered of [...invalid.map(({ sealed }) => bytes(sealed)), ...flips(bytes(dump.sealed))]) {
    assert.throws(() => formats.openAnswer(bytes(key), bytes(dump.context), altered), cobblestone.BrokenSeal);
  }
});

test('an answer of the Cryptor with an unknown field, or none of its fields, is refused', () => {
  const [key, context] = [Buffer.alloc(32), Buffer.from('context')];
  const answer = (told) => cobblestone.seal(key, context, formats.lp(JSON.stringify(told)));
  assert.equal(formats.openAnswer(key, context, answer({ outcomes: [{ code: 'internal' }] })).outcome.code, 'internal');
  for (const told of [
    {},
    { outcomes: [] },
    { outcomes: [{}] },
    { outcomes: [{ code: 'no_such_code' }] },
    { outcomes: [{ code: 'internal' }], more: 1 },
    { outcomes: [{ code: 'internal' }], size: '0' },
    { outcomes: [{ code: 'internal' }], size: 0.5 },
    { outcomes: [{ code: 'internal' }], size: null },
  ]) {
    assert.throws(() => formats.openAnswer(key, context, answer(told)), formats.Malformed, JSON.stringify(told));
  }
});

test('uploads and downloads in pieces', () => {
  const { plaintext_size: size, upload, download, ...given } = vectors('transfers');
  const plaintext = Buffer.alloc(size);
  for (let at = 0; at < size; at += 1) plaintext[at] = at % 251;
  const digest = bytes(given.request_digest);
  assert.equal(hex(formats.payloadContext(digest)), upload.context);
  assert.equal(hex(formats.downloadContext(digest, bytes(given.attempt))), download.context);
  for (const { key, context, salt, sealed_size: sealedSize, sealed_sha256: sealedHash, pieces } of [upload, download]) {
    const sealed = cobblestone.seal(bytes(key), bytes(context), plaintext, bytes(salt));
    assert.equal(sealed.length, sealedSize);
    assert.equal(createHash('sha256').update(sealed).digest('hex'), sealedHash);
    const blocks = new cobblestone.Blocks(formats.PIECE);
    const cut = [...blocks.push(sealed), blocks.rest()];
    assert.deepEqual(
      cut.map((piece) => ({ size: piece.length, sha256: hex(formats.sha256(piece)) })),
      pieces,
    );
    const opener = new cobblestone.Opener(bytes(key), bytes(context));
    const opened = Buffer.concat([...cut.map((piece) => opener.update(piece)), opener.final()]);
    assert.equal(hex(formats.sha256(opened)), given.plaintext_sha256);
    const swapped = new cobblestone.Opener(bytes(key), bytes(context));
    swapped.update(cut[0]);
    assert.throws(() => swapped.update(cut[2]) && swapped.update(cut[1]), cobblestone.BrokenSeal);
  }
});

test('messages to the client', () => {
  const { to_client: messages } = vectors('messages');
  const read = messages.map(({ type, meta, body }) => [type, formats.readMessage(type, meta, bytes(body)), meta]);
  for (const [type, message, meta] of read) {
    const given = JSON.parse(meta);
    if (type !== 'answers.v1') assert.deepEqual(message, type === 'refusal.v1' ? { reason: '', ...given } : given);
    else message.jobs.forEach(({ status }, number) => assert.partialDeepStrictEqual(status, given.jobs[number]));
  }
  const two = messages.find(({ body }) => body.startsWith(hex('sealed answer')));
  const { jobs } = formats.readMessage(two.type, two.meta, bytes(two.body));
  assert.deepEqual(
    jobs.map(({ sealed }) => String(sealed)),
    ['sealed answer', '', 'another sealed answer'],
  );
  for (const body of [bytes(two.body).subarray(1), Buffer.concat([bytes(two.body), Buffer.of(0)])]) {
    assert.throws(() => formats.readMessage(two.type, two.meta, body), formats.Malformed);
  }
  for (const [type, meta] of [
    ['answers.v2', two.meta],
    [two.type, undefined],
    [two.type, '{'],
    ['refusal.v1', '{}'],
    ['refusal.v1', '{"code":"busy","reason":"\\u001b[2J"}'],
    ['key_directory.v1', '{"__proto__":1}'],
  ]) {
    assert.throws(() => formats.readMessage(type, meta, Buffer.alloc(0)), formats.Malformed, `${type} ${meta}`);
  }
});
