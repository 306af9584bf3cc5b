/**
 * Sealed streams (docs/format.md §3): Cobblestone-256 of C2SP chunked-encryption.
 *
 * Sealer and Opener take bytes in portions of any size, as node's own ciphers do, and hold one chunk at most. They know
 * nothing of what the bytes mean.
 */
import { createCipheriv, createDecipheriv, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

const LABEL = Buffer.from('c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0');
const CIPHER = 'aes-256-gcm';
const CHUNK = 16_384;
const TAG = 16;
const SALT = 24;
const HEADER = SALT + 32; // salt and commitment

/** Every failure alike: what was wrong with the bytes is nobody's business. */
export class BrokenSeal extends Error {
  name = 'BrokenSeal';

  constructor() {
    super('the bytes do not open');
  }
}

/** Cuts bytes that come in any portions into blocks of exactly `size`. */
export class Blocks {
  #size;
  #held = [];
  #length = 0;

  constructor(size) {
    this.#size = size;
  }

  /** The blocks that are full now. */
  push(bytes) {
    const full = [];
    while (this.#length + bytes.length >= this.#size) {
      const cut = this.#size - this.#length;
      full.push(Buffer.concat([...this.#held, bytes.subarray(0, cut)]));
      [this.#held, this.#length, bytes] = [[], 0, bytes.subarray(cut)];
    }
    if (bytes.length > 0) this.#held.push(bytes);
    this.#length += bytes.length;
    return full;
  }

  /** What is left: fewer than `size` bytes, possibly none. */
  rest() {
    return Buffer.concat(this.#held);
  }
}

export class Sealer {
  #keys;
  #chunks = new Blocks(CHUNK);

  /** The salt is chosen in tests alone. */
  constructor(key, context, salt = randomBytes(SALT)) {
    this.#keys = new ChunkKeys(key, salt, context);
    this.header = Buffer.concat([salt, this.#keys.commitment]);
  }

  update(plaintext) {
    return Buffer.concat(this.#chunks.push(plaintext).map((chunk) => this.#seal(chunk)));
  }

  /** The last chunk, which is always short: an exact multiple gains an empty one. */
  final() {
    return this.#seal(this.#chunks.rest());
  }

  #seal(chunk) {
    const cipher = createCipheriv(CIPHER, this.#keys.aes, this.#keys.nextNonce());
    return Buffer.concat([cipher.update(chunk), cipher.final(), cipher.getAuthTag()]);
  }
}

/** What `update` gives is authentic and provisional: only when `final` has returned is the stream whole. */
export class Opener {
  #key;
  #context;
  #header = new Blocks(HEADER);
  #keys;
  #chunks = new Blocks(CHUNK + TAG);

  constructor(key, context) {
    this.#key = key;
    this.#context = context;
  }

  update(sealed) {
    if (this.#keys === undefined) {
      const missing = HEADER - this.#header.rest().length;
      const [header] = this.#header.push(sealed.subarray(0, missing));
      if (header === undefined) return Buffer.alloc(0);
      this.#begin(header);
      sealed = sealed.subarray(missing);
    }
    return Buffer.concat(this.#chunks.push(sealed).map((chunk) => this.#open(chunk)));
  }

  final() {
    if (this.#keys === undefined) throw new BrokenSeal();
    return this.#open(this.#chunks.rest());
  }

  #begin(header) {
    const keys = new ChunkKeys(this.#key, header.subarray(0, SALT), this.#context);
    if (!timingSafeEqual(keys.commitment, header.subarray(SALT))) throw new BrokenSeal();
    this.#keys = keys;
  }

  #open(chunk) {
    if (chunk.length < TAG) throw new BrokenSeal();
    const decipher = createDecipheriv(CIPHER, this.#keys.aes, this.#keys.nextNonce(), { authTagLength: TAG });
    decipher.setAuthTag(chunk.subarray(-TAG));
    try {
      return Buffer.concat([decipher.update(chunk.subarray(0, -TAG)), decipher.final()]);
    } catch {
      throw new BrokenSeal();
    }
  }
}

export function seal(key, context, plaintext, salt) {
  const sealer = new Sealer(key, context, salt);
  return Buffer.concat([sealer.header, sealer.update(plaintext), sealer.final()]);
}

export function open(key, context, sealed) {
  const opener = new Opener(key, context);
  return Buffer.concat([opener.update(sealed), opener.final()]);
}

class ChunkKeys {
  #nonce;
  #number = 0;

  constructor(key, salt, context) {
    const okm = expand(key, Buffer.concat([LABEL, salt, context]));
    this.aes = okm.subarray(0, 32);
    this.#nonce = okm.subarray(32, 44);
    this.commitment = okm.subarray(44, 76);
  }

  /** base_nonce XOR the chunk's number. A stream of 2^32 chunks would be 64 TiB: the last four bytes are enough. */
  nextNonce() {
    const nonce = Buffer.from(this.#nonce);
    nonce.writeUInt32BE((nonce.readUInt32BE(8) ^ this.#number) >>> 0, 8);
    this.#number += 1;
    return nonce;
  }
}

/** HKDF-Expand (RFC 5869 §2.3) to 76 bytes, two blocks of SHA-512. node:crypto has HKDF with its Extract step only. */
function expand(prk, info) {
  const hmac = (...parts) => createHmac('sha512', prk).update(Buffer.concat(parts)).digest();
  const first = hmac(info, Buffer.of(1));
  return Buffer.concat([first, hmac(first, info, Buffer.of(2))]).subarray(0, 76);
}
