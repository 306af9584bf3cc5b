/** The client's profile (docs/protocol.md §1). Errors name a field, never its value. */
import { readFile, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

import { parse } from 'smol-toml';

import { Unusable } from './files.mjs';

const FIELDS = {
  vault_id: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  name: /^[a-z][a-z0-9-]{0,31}$/,
  client_id: /^[0-9a-f]{32}$/,
  url: /^amqps:\/\//,
  ca_file: /./,
  cert_file: /./,
  key_file: /./,
  signing_key: /^[0-9a-f]{64}$/,
  client_secret: /^[0-9a-f]{64}$/,
  vault_identity: /^[0-9a-f]{64}$/,
};

export async function readProfile(path) {
  if ((await stat(path)).mode & 0o077) throw new Unusable(`others may read ${path}: chmod 600`);
  const text = await readFile(path, 'utf8');
  let fields;
  try {
    fields = parse(text);
  } catch {
    throw new Unusable(`${path} is not TOML`); // the parser's own message would quote the line
  }
  for (const [name, pattern] of Object.entries(FIELDS)) {
    if (typeof fields[name] !== 'string' || !pattern.test(fields[name]))
      throw new Unusable(`${path}: the field ${name}`);
  }
  const beside = (name) => readFile(resolve(dirname(path), fields[name]));
  const bytes = (name) => Buffer.from(fields[name], 'hex');
  return {
    name: fields.name,
    vaultId: fields.vault_id,
    url: new URL(fields.url),
    clientId: bytes('client_id'),
    signingKey: bytes('signing_key'),
    clientSecret: bytes('client_secret'),
    vaultIdentity: bytes('vault_identity'),
    tls: { ca: await beside('ca_file'), cert: await beside('cert_file'), key: await beside('key_file') },
  };
}
