import { Component, type ComponentChildren } from 'preact';

/** Shows a sentence instead of a part that broke; `resetBy`: another value tries anew. */
export class Guard extends Component<
  { resetBy: string; children: ComponentChildren },
  { broken: Error | null; at: string }
> {
  override state = { broken: null as Error | null, at: '' };

  override componentDidCatch(error: Error): void {
    console.error(error);
    this.setState({ broken: error, at: this.props.resetBy });
  }

  override render() {
    const { broken, at } = this.state;
    if (broken === null || at !== this.props.resetBy) return this.props.children;
    return (
      <div class="failure" role="alert">
        <p>This page broke. Nothing that was already done is lost.</p>
        <p class="quiet small">{broken.message}</p>
        <button type="button" class="button" onClick={() => location.reload()}>
          Load it again
        </button>
      </div>
    );
  }
}
