/** Files as source of a dump and as target of a load: read twice, written under a temporary name. */
import { createHash, randomUUID } from 'node:crypto';
import { open, rename, unlink } from 'node:fs/promises';

/** A local file that cannot be used as it is. */
export class Unusable extends Error {
  name = 'Unusable';
}

const PORTION = 262_144;

/** A source (trivault.mjs) for as long as `use` runs. */
export async function withSource(path, use) {
  const file = await open(path);
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw new Unusable(`${path} is not a regular file`);
    return await use(new Source(path, file, stat.size));
  } finally {
    await file.close();
  }
}

class Source {
  #path;
  #file;
  #sha256;

  constructor(path, file, size) {
    this.#path = path;
    this.#file = file;
    this.size = size;
  }

  async sha256() {
    const hash = createHash('sha256');
    for await (const bytes of this.#portions()) hash.update(bytes);
    this.#sha256 = hash.digest();
    return this.#sha256;
  }

  /** The bytes that were hashed. If they are others by now it throws, and the payload never gets its last chunk. */
  async *read() {
    const hash = createHash('sha256');
    for await (const bytes of this.#portions()) {
      hash.update(bytes);
      yield bytes;
    }
    if (!hash.digest().equals(this.#sha256)) throw new Unusable(`${this.#path} changed while it was read`);
  }

  async *#portions() {
    for (let at = 0; at < this.size;) {
      const buffer = Buffer.alloc(Math.min(PORTION, this.size - at));
      const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) throw new Unusable(`${this.#path} changed while it was read`);
      yield buffer.subarray(0, bytesRead);
      at += bytesRead;
    }
  }
}

/** Gives `use` a sink (trivault.mjs). Its bytes appear at `path` once `use` has returned, and never if it throws. */
export async function withSink(path, use) {
  const temporary = `${path}.${randomUUID()}.part`;
  const file = await open(temporary, 'wx', 0o600);
  try {
    const result = await use(new Sink(file));
    await file.sync();
    await rename(temporary, path);
    return result;
  } catch (error) {
    await unlink(temporary);
    throw error;
  } finally {
    await file.close();
  }
}

class Sink {
  #file;
  #at = 0;

  constructor(file) {
    this.#file = file;
  }

  async restart() {
    await this.#file.truncate(0);
    this.#at = 0;
  }

  async write(bytes) {
    for (let from = 0; from < bytes.length;) {
      const { bytesWritten } = await this.#file.write(bytes, from, bytes.length - from, this.#at);
      from += bytesWritten;
      this.#at += bytesWritten;
    }
  }
}
