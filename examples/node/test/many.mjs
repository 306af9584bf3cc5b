/**
 * Many dumps and loads in one process, for tests/acceptance/test_node_client.py.
 *
 * Standard input: {"profile": file, "dump": [file, ...], "load": [[uuid, file], ...]}. Standard output: the uuids, or a
 * code where there is none.
 */
import { text } from 'node:stream/consumers';

import { withSink, withSource } from '../files.mjs';
import { readProfile } from '../profile.mjs';
import { Refused, Vault } from '../trivault.mjs';

const { profile, dump, load } = JSON.parse(await text(process.stdin));
const vault = await Vault.open(await readProfile(profile));
const uuids = [];
for (const path of dump) {
  try {
    uuids.push(await withSource(path, (source) => vault.dump(source)));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    uuids.push(error.code);
  }
}
for (const [uuid, path] of load) await withSink(path, (sink) => vault.load(uuid, sink));
await vault.close();
console.log(JSON.stringify(uuids));
