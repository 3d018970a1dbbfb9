/**
 * Lets derivations of a few groups come to rest. On a busy machine the kernel may stop a test in the middle of a
 * derivation for longer than its slice, so that it goes on in a later turn of the event loop; each turn does at
 * least one group of each derivation in a row of them.
 */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await new Promise(resolve => setImmediate(resolve));
}
