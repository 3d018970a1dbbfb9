/** A node that others of its cluster do not hear, in words that follow its name. */
export function unreachableText(node: {
  readonly by: readonly string[];
  readonly dead: boolean;
  /** Seconds. */
  readonly age: number;
}): string {
  const what = `has not answered ${node.by.join(', ')} for ${Math.round(node.age)} s`;
  return node.dead
    ? `${what}: its pods get no new connections`
    : `${what}, but so do most nodes, or they accuse each other: its pods stay in service`;
}
