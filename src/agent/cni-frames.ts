/** Frames between the CNI plugin and the agent (cni/agent.h): length, type, payload. */

export interface Frame {
  /** To the agent Q, D, F; from the agent P, R, E. */
  readonly type: string;
  readonly payload: Buffer;
}

const LARGEST = 16 << 20;

export function encodeFrame(type: string, payload: string | Uint8Array): Buffer {
  const body = typeof payload === 'string' ? Buffer.from(payload) : payload;
  const out = Buffer.alloc(5 + body.length);
  out.writeUInt32BE(1 + body.length, 0);
  out.write(type, 4, 'latin1');
  out.set(body, 5);
  return out;
}

/** Frames of a byte stream; ends with it. Throws on a frame no plugin sends. */
export async function* decodeFrames(stream: AsyncIterable<Buffer>): AsyncGenerator<Frame> {
  let pending: Buffer = Buffer.alloc(0);
  for await (const chunk of stream) {
    pending = pending.length ? Buffer.concat([pending, chunk]) : chunk;
    while (pending.length >= 5) {
      const length = pending.readUInt32BE(0);
      if (length < 1 || length > LARGEST) throw new Error(`CNI frame of ${length} bytes`);
      if (pending.length < 4 + length) break;
      yield { type: pending.toString('latin1', 4, 5), payload: pending.subarray(5, 4 + length) };
      pending = pending.subarray(4 + length);
    }
  }
}
