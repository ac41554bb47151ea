// The theme brings a script of 1.5 MB here that draws its icons anew. Its style sheet has them as a font.
