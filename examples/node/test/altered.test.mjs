/** What the client makes of messages that were altered on their way (docs/protocol.md §5 to §8): no wrong record. */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { test } from 'node:test';

import { PIECE } from '../formats.mjs';
import { FakeVault, Memory, answers, flipped, source } from './fake-vault.mjs';

const LARGE = randomBytes(2 * PIECE + 100_000);
const SMALL = Buffer.from('a small record');
const SLOW = { timeout: 60_000 }; // the client waits 5 s before it asks

const unaltered = (message) => [message];

/** Applies `act` to the first message of a type, and lets everything else pass. */
function first(type, act) {
  let done = false;
  return (message) => {
    if (done || message.type !== type) return [message];
    done = true;
    return act(message);
  };
}

/** Applies `act` to pieces of a download. It gets their meta, and a function that gives the piece, changed or not. */
const pieces = (act) => (message) => {
  if (message.type !== 'download.v1') return [message];
  const meta = JSON.parse(message.meta);
  return act(meta, (changes = {}, body = message.body) => ({
    ...message,
    body,
    meta: JSON.stringify({ ...meta, ...changes }),
  }));
};

/** Dumps a record and loads it again, through `alter`; the vault, to be asked what it saw. */
async function load(blob, alter = unaltered) {
  let act = unaltered;
  const vault = new FakeVault((message) => act(message));
  const client = await vault.client();
  const uuid = await client.dump(source(blob));
  act = alter;
  const sink = new Memory();
  assert.equal(await client.load(uuid, sink), blob.length);
  assert.ok(sink.bytes.equals(blob));
  return vault;
}

test('nothing altered: what was dumped is loaded (the control)', async () => {
  for (const blob of [Buffer.alloc(0), SMALL, LARGE]) await load(blob);
});

test('a key statement with a flipped byte is refused, and nothing is sent', async () => {
  for (const at of [0, 10, 100, -70, -1]) {
    const vault = new FakeVault((message) => [flipped(message, at)]);
    const client = await vault.client();
    await assert.rejects(client.dump(source(SMALL)), { code: 'unauthenticated', reason: 'key_statement_forged' });
    assert.equal(vault.requests, 0);
  }
});

test('an altered answer says nothing: the client asks, and believes the true one', SLOW, async () => {
  await Promise.all(
    [0, 30, 60, -1].map(async (at) => {
      const vault = new FakeVault(first('answers.v1', (message) => [flipped(message, at)]));
      const client = await vault.client();
      assert.ok(vault.records.has(await client.dump(source(SMALL))));
      assert.equal(vault.questions, 1);
      assert.equal(
        (
          await load(
            SMALL,
            first('answers.v1', (message) => [flipped(message, at)]),
          )
        ).questions,
        1,
      );
    }),
  );
});

test('a download with a flipped byte is integrity_failed', async () => {
  for (const at of [0, 40, 60, 90_000, -1]) {
    for (const number of [0, 1, 2]) {
      const spoil = pieces((meta, piece) => [meta.number === number ? flipped(piece(), at) : piece()]);
      await assert.rejects(load(LARGE, spoil), { code: 'integrity_failed' }, `byte ${at} of piece ${number}`);
    }
  }
});

const SPOILT_DOWNLOADS = {
  'that ends early': ({ number }, piece) => [number === 1 ? piece({ pieces: 2 }) : piece()],
  'with two pieces exchanged': ({ number }, piece) => [number === 0 ? piece() : piece({ number: 3 - number })],
  'of another attempt': (_, piece) => [piece({ attempt: '00'.repeat(16) })],
  'without its last byte': ({ number }, piece) => [number === 2 ? piece({}, piece().body.subarray(0, -1)) : piece()],
};
for (const [name, spoil] of Object.entries(SPOILT_DOWNLOADS)) {
  test(`a download ${name} is integrity_failed`, async () => {
    await assert.rejects(load(LARGE, pieces(spoil)), { code: 'integrity_failed' });
  });
}

test('pieces that are not due, of another job or type, or unreadable are passed over', async () => {
  await load(
    LARGE,
    pieces(({ number }, piece) => [
      piece({ number: number + 1 }),
      piece({ job_id: randomUUID() }, SMALL),
      { ...piece(), type: 'download.v2' },
      { ...piece(), meta: '{' },
      { ...piece(), meta: undefined },
      piece(),
      piece(),
    ]),
  );
});

test('a download in pieces that are too long is integrity_failed, though all of its bytes are right', async () => {
  let held;
  const spoil = pieces(({ number }, piece) => {
    if (number === 0) held = piece().body;
    if (number === 1) return [piece({ number: 0, pieces: 2 }, Buffer.concat([held, piece().body]))];
    return number === 0 ? [] : [piece({ number: 1, pieces: 2 })];
  });
  await assert.rejects(load(LARGE, spoil), { code: 'integrity_failed' });
});

test('what came from a Cryptor that died is thrown away', async () => {
  const vault = new FakeVault();
  const client = await vault.client();
  const uuid = await client.dump(source(LARGE));
  vault.dies = true;
  const sink = new Memory();
  assert.equal(await client.load(uuid, sink), LARGE.length);
  assert.ok(sink.bytes.equals(LARGE));
});

const failed = ({ meta }, code) => answers([{ job_id: JSON.parse(meta).jobs[0].job_id, state: 'failed', code }]);

test('an unsealed refusal is believed for the six codes, and for no other', async () => {
  const outcome = async (code) => {
    const vault = new FakeVault(first('answers.v1', (message) => [failed(message, code), message]));
    const client = await vault.client();
    return client.dump(source(SMALL));
  };
  for (const code of ['invalid_request', 'unauthenticated', 'conflict', 'busy', 'quota_exceeded', 'expired']) {
    await assert.rejects(outcome(code), { code });
  }
  for (const code of [
    'not_found',
    'blob_too_large',
    'store_unavailable',
    'upload_lost',
    'integrity_failed',
    'internal',
  ]) {
    assert.match(await outcome(code), /^[0-9a-f-]{36}$/, code);
  }
});

test('a sealed answer is believed whatever end the state says', async () => {
  for (const state of ['failed', 'expired']) {
    await load(SMALL, (message) => [{ ...message, meta: message.meta.replace('succeeded', state) }]);
  }
});

test('messages that a client does not know are dropped', async () => {
  await load(SMALL, (message) => [
    { ...message, type: 'answers.v2' },
    { ...message, meta: undefined },
    { ...message, meta: '[]' },
    { ...message, meta: message.meta.replace('"state"', '"more":1,"state"') },
    { ...message, body: message.body.subarray(1) },
    message,
    message,
  ]);
});

test('an answer about another record than the one that was asked for is integrity_failed', async () => {
  const vault = new FakeVault();
  const client = await vault.client();
  const uuid = await client.dump(source(SMALL));
  vault.mistaken = randomUUID();
  await assert.rejects(client.load(uuid, new Memory()), { code: 'integrity_failed' });
});

test('a load whose answer went elsewhere is made anew', async () => {
  const gone = ({ meta }) => [answers([{ ...JSON.parse(meta).jobs[0], size: 0 }])];
  assert.equal((await load(SMALL, first('answers.v1', gone))).requests, 3);
});

test('nothing is uploaded for an earlier request under the same job id', async () => {
  const vault = new FakeVault();
  const client = await vault.client();
  await client.dump(source(LARGE));
  assert.equal(vault.uploaded, 3);
  vault.earlier = randomUUID();
  assert.equal(await client.dump(source(LARGE)), vault.earlier);
  assert.equal(vault.uploaded, 3);
});

test('one byte more than the largest blob is refused before anything is sent', async () => {
  const vault = new FakeVault();
  const client = await vault.client();
  await assert.rejects(client.dump({ size: 52_428_801 }), { code: 'blob_too_large' });
  assert.equal(vault.requests, 0);
});
