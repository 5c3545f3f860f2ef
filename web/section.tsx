import type { ComponentChildren } from 'preact';

export function Section(props: { id: string; title: string; lead?: string; children: ComponentChildren }) {
  const { id, title, lead, children } = props;
  return (
    <section id={id} aria-labelledby={`${id}-title`}>
      <h2 id={`${id}-title`}>{title}</h2>
      {lead && <p class="lead">{lead}</p>}
      {children}
    </section>
  );
}
