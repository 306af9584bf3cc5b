#!/usr/bin/env node
/** The command. Results go to standard output, everything else to standard error. */
import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';

import { Unusable, withSink, withSource } from './files.mjs';
import { isUuid } from './formats.mjs';
import { readProfile } from './profile.mjs';
import { Lost, NotTaken } from './session.mjs';
import { Refused, Vault } from './trivault.mjs';

const USAGE = `usage: node trivault-cli.mjs [--profile FILE] dump FILE [--job JOB]
       node trivault-cli.mjs [--profile FILE] load UUID -o FILE
       node trivault-cli.mjs [--profile FILE] status JOB
The profile may also be named by TRIVAULT_PROFILE.`;

/** Exit status, as that of the Python command, and what to do next (docs/protocol.md §10). */
const [BUG, UNUSABLE, FAILED, NOT_NOW, UNKNOWN, DAMAGED] = [1, 2, 3, 4, 5, 6];
const ENDS = {
  invalid_request: [FAILED, 'the vault does not understand this client'],
  unauthenticated: [FAILED, 'enrol again'],
  not_found: [UNKNOWN, 'this client has no such record'],
  blob_too_large: [FAILED, 'a record has at most 52,428,800 bytes'],
  conflict: [FAILED, 'the job id was used for other content: take a new one'],
  expired: [NOT_NOW, 'there is no record: dump again'],
  busy: [NOT_NOW, 'try again, with the same job id, after a pause'],
  quota_exceeded: [NOT_NOW, 'try again, with the same job id, when other jobs are done'],
  store_unavailable: [NOT_NOW, 'there is no record: try again after a pause'],
  upload_lost: [NOT_NOW, 'there is no record: dump again'],
  integrity_failed: [DAMAGED, 'tell the operator: something was altered, and nothing was given out'],
  internal: [FAILED, 'tell the operator'],
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
    if (state === 'unknown') throw new Refused('not_found', 'unknown_job');
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
    if (!Object.hasOwn(extra, name ?? '') || subject === undefined || rest.length > 0) throw new Usage();
    if (profile === undefined) throw new Usage();
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

/** Exit status and text of whatever ended a command. */
function described(error) {
  if (error instanceof Usage) return [UNUSABLE, error.message];
  // Errors of the file system name the call that failed.
  if (error instanceof Unusable || error.syscall !== undefined) return [UNUSABLE, error.message];
  if (error instanceof Lost || error instanceof NotTaken)
    return [NOT_NOW, `${error.message}: ask for the job, or try again`];
  if (!(error instanceof Refused)) return [BUG, error.stack];
  const [status, advice] = ENDS[error.code];
  return [status, `${error.message}: ${advice}`];
}

try {
  await main();
} catch (error) {
  const [status, text] = described(error);
  process.stderr.write(`${text}\n`);
  process.exitCode = status;
}
