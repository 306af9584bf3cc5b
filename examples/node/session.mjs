/**
 * AMQP as docs/protocol.md §2 and §3 want it: one connection publishes and gets answers, another consumes downloads.
 *
 * What bodies mean is not known here.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as after } from 'node:timers/promises';

import amqp from 'amqplib';

const REPLIES = 'amq.rabbitmq.reply-to';
const TIMEOUT = 20_000;
const PREFETCH = 8;
const SILENCE = 60_000; // of a download

/** The broker did not take the message: it has no queue for it, or the queue is full. */
export class NotTaken extends Error {
  name = 'NotTaken';
}

/** Nobody knows what became of it: no confirm, no answer, or no connection any more. */
export class Lost extends Error {
  name = 'Lost';
}

/** What the promise gives, or undefined when `milliseconds` have passed. */
export async function within(milliseconds, promise) {
  const timer = new AbortController();
  try {
    return await Promise.race([promise, after(milliseconds, undefined, { signal: timer.signal })]);
  } finally {
    timer.abort();
  }
}

export class Session {
  #profile;
  #connection;
  #channel;
  #downloads; // the second connection, made when it is needed
  #returned = new Set();
  #dead = false;
  #lost = Promise.withResolvers();

  /** `onMessage` gets {type, meta, body, correlationId} of whatever comes to the reply channel. */
  static async open(profile, onMessage) {
    const session = new Session();
    session.#profile = profile;
    session.#lost.promise.catch(() => {});
    session.#connection = await session.#connect();
    session.#channel = await session.#connection.createConfirmChannel();
    session.#watch(session.#channel);
    session.#channel.on('return', ({ properties }) => session.#returned.add(properties.messageId));
    const deliver = (message) => (message === null ? session.#fail('no replies') : onMessage(received(message)));
    await session.#channel.consume(REPLIES, deliver, { noAck: true });
    return session;
  }

  /** Rejects when the connection is lost. */
  get lost() {
    return this.#lost.promise;
  }

  /** Returns when the broker has confirmed: only that is success. `properties` are those of AMQP. */
  async publish(exchange, routingKey, { type, meta, body = Buffer.alloc(0), ...properties }) {
    if (this.#dead) throw new Lost('the connection is lost');
    const messageId = randomUUID();
    const confirmed = Promise.withResolvers();
    const options = {
      type,
      headers: { meta: JSON.stringify(meta) },
      userId: this.#profile.name,
      messageId,
      replyTo: exchange === 'requests' ? REPLIES : undefined,
      deliveryMode: 2,
      mandatory: true,
      ...properties,
    };
    // A message that is returned is confirmed too, after its return.
    this.#channel.publish(exchange, routingKey, body, options, (error) =>
      error === null ? confirmed.resolve(true) : confirmed.reject(new NotTaken('the queue is full')),
    );
    const answer = await within(TIMEOUT, Promise.race([this.lost, confirmed.promise]));
    if (answer === undefined) throw new Lost('the broker did not confirm');
    if (this.#returned.delete(messageId)) throw new NotTaken('no such queue');
  }

  /** The pieces of a download: {meta, body, ack}. The queue deletes itself when the caller leaves the loop. */
  async *pieces(queue, signal) {
    this.#downloads ??= this.#connect();
    const channel = await (await this.#downloads).createChannel();
    try {
      channel.on('error', () => {}); // said by the call, or by the deliveries that end
      await channel.prefetch(PREFETCH);
      const mailbox = new Mailbox(); // never more than the prefetch
      channel.on('close', () => mailbox.put(null));
      signal.addEventListener('abort', () => mailbox.put(null));
      if (signal.aborted) return; // while the connection was made
      await channel.consume(queue, (message) => mailbox.put(message), { exclusive: true });
      for (;;) {
        const message = await within(SILENCE, mailbox.take());
        if (signal.aborted) return;
        if (!message) throw new Lost(`the download ${message === null ? 'was cancelled' : 'fell silent'}`);
        yield { ...received(message), ack: () => channel.ack(message) };
      }
    } finally {
      await channel.close().catch(() => {}); // the broker may have closed it
    }
  }

  async close() {
    const downloads = await Promise.resolve(this.#downloads).catch(() => undefined);
    for (const connection of [downloads, this.#connection]) {
      await within(
        TIMEOUT,
        Promise.resolve(connection?.close()).catch(() => {}),
      ); // lost already: nothing to close
    }
  }

  async #connect() {
    const { url, tls } = this.#profile;
    const where = {
      protocol: 'amqps',
      hostname: url.hostname,
      port: Number(url.port),
      vhost: decodeURIComponent(url.pathname.slice(1)),
      frameMax: 131_072,
      heartbeat: 30,
    };
    const how = { ...tls, minVersion: 'TLSv1.3', credentials: amqp.credentials.external(), timeout: TIMEOUT };
    let connection;
    try {
      connection = await amqp.connect(where, how);
    } catch (error) {
      throw new Lost(`no connection: ${error.message}`);
    }
    this.#watch(connection);
    return connection;
  }

  #watch(channelOrConnection) {
    channelOrConnection.on('error', (error) => this.#fail(error.message));
    channelOrConnection.on('close', () => this.#fail('closed'));
  }

  #fail(why) {
    this.#dead = true;
    this.#lost.reject(new Lost(`the connection is lost: ${why}`));
  }
}

class Mailbox {
  #messages = [];
  #waiting;

  put(message) {
    this.#messages.push(message);
    this.#waiting?.resolve();
  }

  async take() {
    if (this.#messages.length === 0) {
      this.#waiting = Promise.withResolvers();
      await this.#waiting.promise;
    }
    return this.#messages.shift();
  }
}

const received = ({ content, properties: { type, headers, correlationId } }) => ({
  type,
  meta: headers?.meta,
  body: content,
  correlationId,
});
