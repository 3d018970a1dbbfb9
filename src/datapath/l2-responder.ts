/** Rows of the map `l2_responders` (bpf/types.h): an address this node answers for on one of its links. */
export interface L2ResponderKey {
  /** As `address.parse` gives it. */
  readonly addr: Uint8Array;
  readonly ifindex: number;
}

export interface L2ResponderValue {
  /** Of the device. */
  readonly mac: Uint8Array;
  /** Answers since the row was written. */
  readonly answers: number;
}
