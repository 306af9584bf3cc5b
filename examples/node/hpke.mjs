/** The Cryptor's public keys (docs/format.md §4): HPKE in base mode with X-Wing, HKDF-SHA256 and AES-256-GCM. */
import { Aes256Gcm, CipherSuite, HkdfSha256 } from '@hpke/core';
import { XWing } from '@hpke/hybridkem-x-wing';

const ENCAPSULATED = 1_120;

export const suite = new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });

/** enc ‖ ciphertext ‖ tag */
export async function sealTo(publicKey, info, plaintext) {
  const recipientPublicKey = await suite.kem.deserializePublicKey(publicKey);
  const { enc, ct } = await suite.seal({ recipientPublicKey, info }, plaintext);
  return Buffer.concat([Buffer.from(enc), Buffer.from(ct)]);
}

/** What the Cryptor does. The client never opens a seal; its tests do. The private key is X-Wing's seed of 32 bytes. */
export async function openWith(seed, info, sealed) {
  const recipientKey = await suite.kem.deserializePrivateKey(seed);
  const enc = sealed.subarray(0, ENCAPSULATED);
  return Buffer.from(await suite.open({ recipientKey, enc, info }, sealed.subarray(ENCAPSULATED)));
}
