#!/usr/bin/env node
/** The command. Results go to standard output, everything else to standard error; the status is 0, 1 (failed) or 2 (usage). */
import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';

import { withSink, withSource } from './files.mjs';
import { isUuid } from './formats.mjs';
import { readProfile } from './profile.mjs';
import { Lost } from './session.mjs';
import { Refused, Vault } from './trivault.mjs';

const USAGE = `usage: node trivault-cli.mjs [--profile FILE] dump FILE [--job JOB]
       node trivault-cli.mjs [--profile FILE] load UUID -o FILE
       node trivault-cli.mjs [--profile FILE] status JOB
The profile may also be named by TRIVAULT_PROFILE.`;

/** What to do next (docs/protocol.md §10). */
const ADVICE = {
  invalid_request: 'this client is wrong, or the vault is of another version',
  unauthenticated: 'enrol again',
  not_found: 'this client has no such record',
  blob_too_large: 'a record has at most 52,428,800 bytes',
  conflict: 'the job id was used for other content: take a new one',
  expired: 'there is no record: dump again',
  busy: 'try again, with the same job id, after a pause',
  quota_exceeded: 'try again, with the same job id, when other jobs are done',
  store_unavailable: 'there is no record: try again after a pause',
  upload_lost: 'there is no record: dump again',
  integrity_failed: 'tell the operator: what is stored is damaged, and nothing was given out',
  internal: 'tell the operator',
};

class Usage extends Error {}

const commands = {
  async dump(vault, [path, job]) {
    process.stderr.write(`job ${job}\n`); // whoever is interrupted can ask for it, or dump again under it
    console.log(await withSource(path, (source) => vault.dump(source, job)));
  },
  async load(vault, [externalUuid, path]) {
    const size = await withSink(path, (sink) => vault.load(externalUuid, sink));
    process.stderr.write(`${size} bytes\n`);
  },
  async status(vault, [job]) {
    const { state, code, reason, outcome } = await vault.status(job);
    if (outcome?.external_uuid) console.log(`succeeded ${outcome.external_uuid}`);
    else console.log([state, outcome?.code ?? code ?? '', reason].filter(Boolean).join(' '));
  },
};

function parsed() {
  try {
    const options = { profile: { type: 'string' }, output: { type: 'string', short: 'o' }, job: { type: 'string' } };
    const { values, positionals } = parseArgs({ options, allowPositionals: true });
    const [name, subject, ...rest] = positionals;
    const extra = { dump: 'job', load: 'output', status: undefined };
    const profile = values.profile ?? process.env.TRIVAULT_PROFILE;
    if (!Object.hasOwn(extra, name ?? '') || subject === undefined || rest.length > 0 || profile === undefined) throw new Usage();
    if (Object.keys(values).some((option) => option !== 'profile' && option !== extra[name])) throw new Usage();
    if (name === 'load' && values.output === undefined) throw new Usage();
    const job = values.job ?? randomUUID();
    if (!isUuid(name === 'dump' ? job : subject)) throw new Usage();
    return { name, profile, args: [subject, name === 'dump' ? job : values.output] };
  } catch {
    throw new Usage(USAGE);
  }
}

async function main() {
  const { name, profile, args } = parsed();
  const vault = await Vault.open(await readProfile(profile));
  try {
    await commands[name](vault, args);
  } finally {
    await vault.close();
  }
}

try {
  await main();
} catch (error) {
  if (error instanceof Usage) process.stderr.write(`${error.message}\n`);
  else if (error instanceof Refused) process.stderr.write(`${error.message}: ${ADVICE[error.code]}\n`);
  else if (error instanceof Lost) process.stderr.write(`${error.message}: ask for the job, or try again\n`);
  else process.stderr.write(`${error.message}\n`);
  process.exitCode = error instanceof Usage ? 2 : 1;
}
