import koffi from 'koffi';
import * as libbpf from './libbpf.ts';

/** One run of a program on a packet that never was on a wire (BPF_PROG_TEST_RUN). */
export interface TestRun {
  /** The frame from its Ethernet header on; at least 14 bytes. */
  readonly packet: Uint8Array;
  /** Device of the caller's network namespace the packet seems to come from. Default: loopback (1). */
  readonly ifindex?: number;
  readonly mark?: number;
  /** How often; the result is of the last run, the time an average. */
  readonly repeat?: number;
}

export interface TestRunResult {
  /** TC_ACT_*: 0 pass, 2 drop, 7 redirect. */
  readonly verdict: number;
  readonly packet: Uint8Array;
  readonly mark: number;
  readonly nanoseconds: number;
}

export const TC_ACT = { OK: 0, SHOT: 2, REDIRECT: 7 } as const;

/** Offsets in struct __sk_buff. */
const SKB = { size: 192, mark: 8, ifindex: 40 } as const;

export function testRun(
  program: number,
  { packet, ifindex = 1, mark = 0, repeat = 1 }: TestRun,
): TestRunResult {
  const out = new Uint8Array(packet.length + 256);
  const context = new Uint8Array(SKB.size);
  const view = new DataView(context.buffer);
  view.setUint32(SKB.mark, mark, true);
  view.setUint32(SKB.ifindex, ifindex, true);
  const seen = new Uint8Array(SKB.size);
  const options = {
    sz: koffi.sizeof(libbpf.TestRunOptions),
    data_in: packet,
    data_out: out,
    data_size_in: packet.length,
    data_size_out: out.length,
    ctx_in: context,
    ctx_out: seen,
    ctx_size_in: context.length,
    ctx_size_out: seen.length,
    retval: 0,
    repeat,
    duration: 0,
    flags: 0,
    cpu: 0,
    batch_size: 0,
  };
  libbpf.check(libbpf.programTestRun(program, options), 'test run');
  return {
    verdict: options.retval,
    packet: out.subarray(0, options.data_size_out),
    mark: new DataView(seen.buffer).getUint32(SKB.mark, true),
    nanoseconds: options.duration,
  };
}
