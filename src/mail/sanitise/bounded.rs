//! Parses HTML with a bound on the work, however it is made.
//!
//! A small text can make a parser work, and its tree grow, with the square of its length: formatting that is opened
//! again in every paragraph, paragraphs that are moved out of a table one by one, attributes that are all compared.
//! Whatever the parser does, it asks the tree or changes it: so the tree counts, and the text is handed over piece by
//! piece until it ends or the count is used up.

use std::{borrow::Cow, cell::Cell};

use html2text::{Element, Handle, RcDom, local_name, ns};
use html5ever::{
    Attribute, ExpandedName, ParseOpts, Parser, QualName,
    interface::{ElementFlags, NodeOrText, QuirksMode, TreeSink},
    parse_document, parse_fragment,
    tendril::{StrTendril, TendrilSink},
    tree_builder::TreeBuilderOpts,
};

/// How much the parser may ask and change; a newsletter of a megabyte takes a third.
const WORK_MAX: usize = 30_000_000;
/// What a change counts for: a node has to be kept, looked at and written again.
const CHANGE: usize = 100;
/// How many bytes elements may have for each byte of the text, besides [`BUILT_FREE`].
const BUILT_RATIO: usize = 8;
/// How many bytes elements may have in any text.
const BUILT_FREE: usize = 64 * 1024;
/// So many comparisons of two attributes count for one question.
const COMPARED: usize = 4;
/// How many bytes are handed to the parser at once, which does not stop within them.
const PIECE: usize = 1024;
/// Most cells that are laid out, as the rows of all tables times the cells of the longest row.
const CELLS_MAX: usize = 2_000_000;
/// Most quotes, lists, headings and cells around one another: each sets its lines apart.
const NESTED_MAX: usize = 80;
/// How often lines may be set apart, as all lines and nodes times the deepest nesting.
const APART_MAX: usize = 2_000_000;

/// The tree of a whole page, as the text renderer wants it; none when it takes too much work or is too deep.
pub(super) fn page(raw: &str, depth: usize) -> Option<RcDom> {
    let builder = TreeBuilderOpts { scripting_enabled: false, ..Default::default() };
    let options = ParseOpts { tree_builder: builder, ..Default::default() };
    let page = feed(parse_document(Counting::of(raw), options), raw)?;
    let shape = Shape::of(&page);
    let lines = shape.nodes + raw.matches('\n').count();
    let is_small = shape.depth <= depth
        && shape.rows.saturating_mul(shape.cells) <= CELLS_MAX
        && shape.nested <= NESTED_MAX
        && lines.saturating_mul(shape.nested) <= APART_MAX;
    is_small.then_some(page)
}

/// Whether a part of a page is parsed, as the cleaner does it, with little work, and is not too deep.
pub(super) fn is_fragment(raw: &str, depth: usize) -> bool {
    let context = QualName::new(None, ns!(html), local_name!("div"));
    let parser = parse_fragment(Counting::of(raw), ParseOpts::default(), context, Vec::new(), false);
    feed(parser, raw).is_some_and(|part| Shape::of(&part).depth <= depth)
}

fn feed(mut parser: Parser<Counting>, raw: &str) -> Option<RcDom> {
    let (mut rest, mut separators) = (raw, 0_usize);
    while !rest.is_empty() {
        let end = (0..=PIECE.min(rest.len())).rfind(|&at| rest.is_char_boundary(at))?;
        let (piece, after) = rest.split_at(end);
        let before = parser.tokenizer.sink.sink.work.get();
        parser.process(StrTendril::from_slice(piece));
        let tree = &parser.tokenizer.sink.sink;
        // A tag's attributes are compared with one another, of which the tree hears nothing.
        let separates = |byte: &u8| matches!(byte, b'/' | b'"' | b'\'') || byte.is_ascii_whitespace();
        let found = piece.bytes().filter(separates).count();
        separators = if tree.work.get() == before { separators + found } else { found };
        tree.add(separators * found / COMPARED);
        if tree.is_spent() {
            return None;
        }
        rest = after;
    }
    Some(parser.finish())
}

/// A tree that counts what is done with it, and does not grow any more when that was too much.
struct Counting {
    tree: RcDom,
    work: Cell<usize>,
    /// The bytes of all elements' tags, as they would be written.
    built: Cell<usize>,
    built_max: usize,
}

impl Counting {
    fn of(raw: &str) -> Self {
        let built_max = raw.len().saturating_mul(BUILT_RATIO).saturating_add(BUILT_FREE);
        Self { tree: RcDom::default(), work: Cell::new(0), built: Cell::new(0), built_max }
    }

    fn is_spent(&self) -> bool {
        self.work.get() > WORK_MAX || self.built.get() > self.built_max
    }

    fn add(&self, work: usize) {
        self.work.set(self.work.get().saturating_add(work));
    }

    /// Counts a change that takes `more` than others; tells whether it can still be made.
    fn may_change(&self, more: usize) -> bool {
        self.add(CHANGE.saturating_add(more));
        !self.is_spent()
    }
}

/// How many nodes are looked at to find the place of this one.
fn siblings(of: &Handle) -> usize {
    of.get_parent().map_or(0, |parent| parent.children.borrow().len())
}

impl TreeSink for Counting {
    type Handle = Handle;
    type Output = RcDom;
    type ElemName<'a> = ExpandedName<'a>;

    fn finish(self) -> RcDom {
        self.tree
    }

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> Handle {
        self.tree.get_document()
    }

    fn elem_name<'a>(&'a self, target: &'a Handle) -> ExpandedName<'a> {
        self.add(1);
        self.tree.elem_name(target)
    }

    fn same_node(&self, one: &Handle, other: &Handle) -> bool {
        self.add(1);
        self.tree.same_node(one, other)
    }

    fn create_element(&self, name: QualName, mut attributes: Vec<Attribute>, flags: ElementFlags) -> Handle {
        let bytes = |attribute: &Attribute| attribute.name.local.len() + attribute.value.len() + 4;
        let bytes = 2 * name.local.len() + 5 + attributes.iter().map(bytes).sum::<usize>();
        self.built.set(self.built.get().saturating_add(bytes));
        if !self.may_change(10 * attributes.len()) {
            attributes.clear();
        } else if matches!(&*name.local, "td" | "th") {
            // In text, cells stand below one another: columns and rows that nothing stands in would only take memory.
            attributes.retain(|attribute| !matches!(&*attribute.name.local, "colspan" | "rowspan"));
        }
        self.tree.create_element(name, attributes, flags)
    }

    fn create_comment(&self, text: StrTendril) -> Handle {
        self.add(CHANGE);
        self.tree.create_comment(text)
    }

    fn create_pi(&self, target: StrTendril, data: StrTendril) -> Handle {
        self.add(CHANGE);
        self.tree.create_pi(target, data)
    }

    fn append(&self, parent: &Handle, child: NodeOrText<Handle>) {
        if self.may_change(0) {
            self.tree.append(parent, child);
        }
    }

    fn append_based_on_parent_node(&self, element: &Handle, previous: &Handle, child: NodeOrText<Handle>) {
        if self.may_change(siblings(element)) {
            self.tree.append_based_on_parent_node(element, previous, child);
        }
    }

    fn append_before_sibling(&self, sibling: &Handle, child: NodeOrText<Handle>) {
        if self.may_change(siblings(sibling)) {
            self.tree.append_before_sibling(sibling, child);
        }
    }

    fn append_doctype_to_document(&self, name: StrTendril, public: StrTendril, system: StrTendril) {
        if self.may_change(0) {
            self.tree.append_doctype_to_document(name, public, system);
        }
    }

    fn add_attrs_if_missing(&self, target: &Handle, attributes: Vec<Attribute>) {
        let known = if let Element { attrs, .. } = &target.data { attrs.borrow().len() } else { 0 };
        if self.may_change(10 * (known + attributes.len())) {
            self.tree.add_attrs_if_missing(target, attributes);
        }
    }

    fn remove_from_parent(&self, target: &Handle) {
        if self.may_change(siblings(target)) {
            self.tree.remove_from_parent(target);
        }
    }

    fn reparent_children(&self, node: &Handle, parent: &Handle) {
        let children = node.children.borrow().len();
        if self.may_change(children) {
            self.tree.reparent_children(node, parent);
        }
    }

    fn get_template_contents(&self, target: &Handle) -> Handle {
        self.tree.get_template_contents(target)
    }

    fn is_mathml_annotation_xml_integration_point(&self, node: &Handle) -> bool {
        self.tree.is_mathml_annotation_xml_integration_point(node)
    }

    fn set_quirks_mode(&self, mode: QuirksMode) {
        self.tree.set_quirks_mode(mode);
    }
}

/// What rendering a tree depends on besides its length.
#[derive(Default)]
struct Shape {
    nodes: usize,
    /// The deepest nesting of elements.
    depth: usize,
    /// The deepest nesting of elements whose lines are set apart.
    nested: usize,
    rows: usize,
    /// The cells of the longest row.
    cells: usize,
}

impl Shape {
    fn of(tree: &RcDom) -> Self {
        let mut shape = Self::default();
        let mut open = vec![(tree.document.clone(), 0, 0)];
        while let Some((node, depth, nested)) = open.pop() {
            let children = node.children.borrow();
            let nested = nested + usize::from(shape.add(&node, children.len()));
            shape.depth = shape.depth.max(depth);
            shape.nested = shape.nested.max(nested);
            open.extend(children.iter().map(|child| (child.clone(), depth + 1, nested)));
        }
        shape
    }

    /// Counts a node; tells whether the lines in it are set apart.
    fn add(&mut self, node: &Handle, children: usize) -> bool {
        self.nodes += 1;
        let Element { name, .. } = &node.data else { return false };
        match &*name.local {
            "tr" => {
                self.rows += 1;
                self.cells = self.cells.max(children);
                false
            }
            "blockquote" | "ul" | "ol" | "li" | "dl" | "dd" | "td" | "th" => true,
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
