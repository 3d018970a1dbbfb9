/** What is in a transaction, or may be. */
export interface TransactionSize {
  readonly operations: number;
  /** Of keys and values. */
  readonly bytes: number;
}

/** What etcd takes in one: operations (--max-txn-ops), and well below its 1.5 MiB. */
export const TRANSACTION: TransactionSize = { operations: 128, bytes: 1 << 20 };

/** Cuts what is to be written into transactions. What is too large by itself stands alone. */
export function* transactions<Each>(
  all: Iterable<Each>,
  sizeOf: (each: Each) => TransactionSize,
  most: TransactionSize = TRANSACTION,
): Generator<Each[]> {
  let part: Each[] = [];
  let operations = 0;
  let bytes = 0;
  for (const each of all) {
    const size = sizeOf(each);
    if (part.length && (operations + size.operations > most.operations || bytes + size.bytes > most.bytes)) {
      yield part;
      part = [];
      operations = 0;
      bytes = 0;
    }
    part.push(each);
    operations += size.operations;
    bytes += size.bytes;
  }
  if (part.length) yield part;
}
